# Figures similar to those of the paper.


rule figure:
    """Draw a figure."""
    input:
        relevance=of(plan.relevance_of_figure, "figure"),
        files=of(plan.inputs_of_figure, "figure"),
    output:
        png=report(
            f"{RESULTS}/figures/{{figure}}.png",
            caption="../report/figure.rst",
            category="Figures",
            labels={"figure": "{figure}"},
        ),
        pdf=f"{RESULTS}/figures/{{figure}}.pdf",
    log:
        f"{RESULTS}/logs/figure-{{figure}}.log",
    wildcard_constraints:
        figure=pattern(study.figures),
    conda:
        "../../envs/preddiff.yaml"
    params:
        settings=of(plan.figure_settings, "figure"),
        stores=lambda w: plan.relevance_stores(study.figures[w.figure].explanations),
        code=of(plan.code_of_figure, "figure"),
    shell:
        "preddiff figure {params.stores:q} --settings {params.settings:q} --out {output.png:q} "
        "2>&1 | tee {log:q}"


# Too short for separate jobs on a cluster.
localrules:
    figure,
