# The validated configuration, where results lie, and which of them a study consists of.
from pathlib import Path

from snakemake.exceptions import WorkflowError

from preddiff.datasets.volumes import read_table
from preddiff.errors import InputError
from preddiff.options import write_options
from preddiff.provenance import digest_code
from preddiff.settings import (
    Columns,
    FigureSettings,
    GaussianSettings,
    Logistic,
    Slab,
    Study,
    WindowSettings,
    validate,
)

# What nilearn can fetch at most; a shard beyond a dataset's last item is empty.
OASIS_SUBJECTS = 403


def mended_by_the_user(function, *arguments):
    """Call a function; show the errors that a user can mend without a traceback."""
    try:
        return function(*arguments)
    except InputError as error:
        raise WorkflowError(str(error)) from None


study = mended_by_the_user(validate, Study, config, "configuration")
RESULTS = f"results/{study.study}"


wildcard_constraints:
    dataset="[A-Za-z0-9_-]+",
    classifier="[A-Za-z0-9_-]+",
    explanation="[A-Za-z0-9_-]+",
    figure="[A-Za-z0-9_-]+",


def datasets_of(source):
    """Pattern of the datasets that come from a source; matches nothing if there are none."""
    names = [
        name for name, dataset in study.datasets.items() if getattr(dataset, source)
    ]
    return "|".join(names) or "(?!)"


def table_of(wildcards):
    """Table of a dataset's subjects: the user's, or one that a rule makes."""
    given = study.datasets[wildcards.dataset].table
    return (
        str(given)
        if given
        else f"{RESULTS}/cohorts/{wildcards.dataset}/participants.tsv"
    )


def volumes_of(wildcards):
    """Files that a user's table names; those that are missing are left to the rule to report."""
    dataset = study.datasets[wildcards.dataset]
    if dataset.table is None:
        return []
    subjects = mended_by_the_user(read_table, dataset.table, dataset.part(Columns))
    files = [s.file for s in subjects] + [s.truth for s in subjects if s.truth]
    return [str(path) for path in files if path.exists()]


def store(kind, name):
    """What Snakemake tracks of a store that one job writes whole: its metadata file."""
    return f"{RESULTS}/{kind}/{name}.zarr/zarr.json"


def data_of(classifier):
    return store("data", study.classifiers[classifier].dataset)


def slab_of(classifier):
    return study.classifiers[classifier].part(Slab)


def gaussian_of(explanation):
    """Name of the Gaussian that an explanation's sampler draws from, or None."""
    chosen = study.explanations[explanation]
    sampler = study.samplers[chosen.sampler]
    if sampler.kind != "conditional":
        return None
    slab = slab_of(chosen.classifier)
    place = (
        f"-axis{slab.axis}-{slab.slices[0]}-{slab.slices[1]}" if sampler.grid else ""
    )
    dataset = study.classifiers[chosen.classifier].dataset
    return f"{dataset}-l{chosen.l}-{chosen.sampler}{place}"


# One of the explanations that each Gaussian serves tells all about it.
GAUSSIANS = {
    gaussian: explanation
    for explanation in study.explanations
    if (gaussian := gaussian_of(explanation))
}


def gaussian_settings(wildcards):
    explanation = study.explanations[GAUSSIANS[wildcards.gaussian]]
    settings = write_options(study.samplers[explanation.sampler].part(GaussianSettings))
    slab = write_options(slab_of(explanation.classifier))
    return f"--l {explanation.l} {settings} {slab}"


def number_of_items(explanation):
    chosen = study.explanations[explanation]
    if isinstance(chosen.items, int):
        return chosen.items
    if chosen.items is not None:
        return len(chosen.items)
    dataset = study.datasets[study.classifiers[chosen.classifier].dataset]
    if dataset.phantom:
        return dataset.phantom.patients + dataset.phantom.controls
    if dataset.oasis:
        return dataset.oasis.subjects or OASIS_SUBJECTS
    return len(mended_by_the_user(read_table, dataset.table, dataset.part(Columns)))


def shards_of(explanation):
    """Markers of an explanation's shards: ranges of its items, one job each."""
    step = study.explanations[explanation].items_per_job
    return [
        f"{RESULTS}/expectations/{explanation}.done/items-{first:05d}-{first + step:05d}.json"
        for first in range(0, number_of_items(explanation), step)
    ]


def localised(classifier):
    """Explanations of a classifier whose cohort has truth masks."""
    if study.datasets[study.classifiers[classifier].dataset].truth is None:
        return []
    return [
        name for name, e in study.explanations.items() if e.classifier == classifier
    ]


def classifier_of(figure):
    return study.explanations[study.figures[figure].explanations[0]].classifier


def everything():
    """All that a study makes. Shards are listed, so that a deleted marker does not go unnoticed."""
    wanted = []
    for name, explanation in study.explanations.items():
        wanted += [*shards_of(name), store("relevance", name)]
        if explanation.nifti:
            wanted.append(f"{RESULTS}/relevance/{name}-nifti")
    wanted += [f"{RESULTS}/classifiers/{name}/cv.json" for name in study.classifiers]
    wanted += [
        f"{RESULTS}/tables/localisation-{name}-summary.tsv"
        for name in study.classifiers
        if localised(name)
    ]
    wanted += [f"{RESULTS}/figures/{name}.png" for name in study.figures]
    return wanted
