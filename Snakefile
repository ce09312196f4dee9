# A study by prediction difference analysis; its configuration is documented in config/README.md.
from snakemake.utils import min_version

min_version("9.27")


report: "workflow/report/workflow.rst"


# Without --configfile, the default study is run.
if "study" not in config:

    configfile: "config/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/prepare.smk"
include: "workflow/rules/fit.smk"
include: "workflow/rules/explain.smk"
include: "workflow/rules/summarise.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/pages.smk"


rule all:
    default_target: True
    input:
        without_traceback(plan.everything),
