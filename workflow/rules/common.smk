# The validated configuration, and the plan of the study.
from functools import partial
from pathlib import Path

from snakemake.exceptions import WorkflowError

from preddiff.errors import InputError
from preddiff.pages.page import digest_of_assets
from preddiff.paths import pattern
from preddiff.settings.base import validate
from preddiff.settings.description import describe
from preddiff.settings.study import Study
from preddiff.workflow import NETWORK_THREADS, Plan, code_of, growing


def without_traceback(function, *arguments):
    """Call a function, and show errors that a user can correct without a traceback."""
    try:
        return function(*arguments)
    except InputError as error:
        raise WorkflowError(str(error)) from None


def of(function, wildcard):
    """Input or parameter that a function computes from the value of a wildcard."""
    return lambda wildcards: without_traceback(function, getattr(wildcards, wildcard))


study = without_traceback(validate, Study, config, "configuration")
plan = Plan(study)
RESULTS = plan.results


# Names from the configuration, and file names that are joined from several of them.
wildcard_constraints:
    dataset="[A-Za-z0-9_-]+",
    classifier="[A-Za-z0-9_-]+",
    explanation="[A-Za-z0-9_-]+",
    figure="[A-Za-z0-9_-]+",
    data="[A-Za-z0-9_.-]+",
    gaussian="[A-Za-z0-9_.-]+",
    predictions="[A-Za-z0-9_.-]+",
    deletion="[A-Za-z0-9_.-]+",


# What the first page of the report begins with, once it is known.
config["findings"] = plan.text_of_findings
