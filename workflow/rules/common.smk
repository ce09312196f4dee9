# The validated configuration, where results lie, and which of them a study consists of.
import math
from functools import cache, partial
from pathlib import Path

from snakemake.exceptions import WorkflowError

from preddiff.datasets.volumes import read_table
from preddiff.errors import InputError
from preddiff.settings.options import write_options
from preddiff.storage.provenance import digest_code
from preddiff.settings.study import (
    Cohort,
    Columns,
    DigitTraining,
    Digits,
    Explanation,
    Figure,
    FigureSettings,
    GaussianSettings,
    Geometry,
    ImageFigure,
    ImageFigureSettings,
    ImageSet,
    Logistic,
    ModuleSettings,
    SamplerSettings,
    Sensitivity,
    Slab,
    Study,
    TargetSettings,
    TorchvisionSettings,
    WindowSettings,
    validate,
)

# What nilearn can fetch at most; a shard beyond a dataset's last item is empty.
OASIS_SUBJECTS = 403

# What scikit-learn carries.
DIGITS = 1797
DIGIT_SIDE = 8

# Files that Snakemake is asked to watch one by one.
TRACKED_IMAGES = 10_000

# Forward passes of a network that an hour of a GPU is expected to suffice for, and items that any
# job has at most.
PASSES_PER_JOB = 3600 * 50_000
ITEMS_PER_JOB = 1000

# Cores that a network is run on, where there are as many.
NETWORK_THREADS = 4


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
    data="[A-Za-z0-9_-]+",
    deletion="[A-Za-z0-9_-]+",


def pattern(names):
    """Pattern of some names; matches nothing if there are none."""
    return "|".join(names) or "(?!)"


def cohorts_from(source):
    """Cohorts that come from a source: table, phantom or oasis."""
    return [
        name
        for name, dataset in study.datasets.items()
        if isinstance(dataset, Cohort) and getattr(dataset, source)
    ]


def of_type(objects, *types):
    """Names of the objects of a section of the configuration that are of some types."""
    return [name for name, one in objects.items() if isinstance(one, types)]


def of_kind(kind):
    """Names of the classifiers of a kind."""
    return [name for name, c in study.classifiers.items() if c.kind == kind]


def table_of(wildcards):
    """Table of a dataset's subjects: the user's, or one that a rule makes."""
    given = study.datasets[wildcards.dataset].table
    return (
        str(given)
        if given
        else f"{RESULTS}/cohorts/{wildcards.dataset}/participants.tsv"
    )


def trackable(path):
    """Whether Snakemake can track a file: it takes braces in its name for wildcards."""
    return not {"{", "}"}.intersection(str(path))


def volumes_of(wildcards):
    """Files that a user's table names; those that are missing are left to the rule to report."""
    dataset = study.datasets[wildcards.dataset]
    if dataset.table is None:
        return []
    subjects = mended_by_the_user(read_table, dataset.table, dataset.part(Columns))
    files = [s.file for s in subjects] + [s.truth for s in subjects if s.truth]
    return [str(path) for path in files if path.exists() and trackable(path)]


def store(kind, name):
    """What Snakemake tracks of a store that one job writes whole: its metadata file."""
    return f"{RESULTS}/{kind}/{name}.zarr/zarr.json"


def geometry_of(classifier):
    """How images are resized and cut for a classifier: as set, or as its weights ask for."""
    chosen = study.classifiers[classifier]
    if chosen.kind != "torchvision" or None not in (chosen.resize, chosen.crop):
        return chosen.part(Geometry)
    # Imported where needed, for it takes seconds.
    from preddiff.classifiers.torchvision import defaults

    own = Path(chosen.weights).suffix != ""
    usual = mended_by_the_user(
        defaults, chosen.name, "DEFAULT" if own else chosen.weights
    )
    return Geometry(
        resize=chosen.resize or usual.resize, crop=chosen.crop or usual.crop
    )


def data_name(dataset, classifier):
    """Name of a data store: images are prepared for the classifiers that see them."""
    if not isinstance(study.datasets[dataset], ImageSet):
        return dataset
    geometry = geometry_of(classifier)
    return f"{dataset}-{geometry.resize or 'as-is'}-{geometry.crop}"


# The geometry that each store of images is prepared with.
IMAGE_STORES = {}
for one in study.explanations.values():
    datasets = {study.explained(one)}
    if isinstance(one, Explanation):
        datasets.add(study.learnt_from(one))
    for name in datasets:
        if isinstance(study.datasets[name], ImageSet):
            IMAGE_STORES[data_name(name, one.classifier)] = (
                name,
                geometry_of(one.classifier),
            )


def data_of(explanation):
    """Data store of the items that are explained."""
    chosen = study.explanations[explanation]
    return store("data", data_name(study.explained(chosen), chosen.classifier))


def learnt_data_of(explanation):
    """Data store that an explanation's sampler takes patches and donors from."""
    chosen = study.explanations[explanation]
    return store("data", data_name(study.learnt_from(chosen), chosen.classifier))


def training_data_of(classifier):
    """Data store that a classifier is trained on."""
    return store("data", study.classifiers[classifier].dataset)


def slab_of(classifier):
    return study.classifiers[classifier].part(Slab)


def weights_of(wildcards):
    """State dict of a network of torchvision: the user's, or one that a rule fetches."""
    chosen = study.classifiers[wildcards.classifier]
    if Path(chosen.weights).suffix:
        return chosen.weights
    return f"{RESULTS}/weights/{chosen.name}-{chosen.weights}.safetensors"


def is_network(classifier):
    return study.classifiers[classifier].kind != "logistic"


def predictions_of(explanation):
    """Table of what a network makes of the items, or nothing for linear classifiers."""
    chosen = study.explanations[explanation]
    if not is_network(chosen.classifier):
        return []
    return f"{RESULTS}/tables/predictions-{study.explained(chosen)}-{chosen.classifier}.tsv"


def gaussian_of(explanation):
    """Name of the Gaussian that an explanation's sampler draws from, or None."""
    chosen = study.explanations[explanation]
    if not isinstance(chosen, Explanation):
        return None
    sampler = study.samplers[chosen.sampler]
    if sampler.kind != "conditional":
        return None
    place = ""
    if sampler.grid:
        slab = slab_of(chosen.classifier)
        place = f"-axis{slab.axis}-{slab.slices[0]}-{slab.slices[1]}"
    data = data_name(study.learnt_from(chosen), chosen.classifier)
    return f"{data}-l{chosen.l}-{chosen.sampler}{place}"


# One of the explanations that each Gaussian serves tells all about it.
GAUSSIANS = {
    gaussian: explanation
    for explanation in study.explanations
    if (gaussian := gaussian_of(explanation))
}


def gaussian_settings(wildcards):
    explanation = study.explanations[GAUSSIANS[wildcards.gaussian]]
    sampler = study.samplers[explanation.sampler]
    settings = write_options(sampler.part(GaussianSettings))
    slab = write_options(slab_of(explanation.classifier)) if sampler.grid else ""
    return f"--l {explanation.l} {settings} {slab}"


def number_of_items(explanation):
    chosen = study.explanations[explanation]
    if isinstance(chosen.items, int):
        return chosen.items
    if chosen.items is not None:
        return len(chosen.items)
    dataset = study.datasets[study.explained(chosen)]
    if isinstance(dataset, Digits):
        return math.ceil(DIGITS * dataset.digits.test)
    if isinstance(dataset, ImageSet):
        count = len(images_of(study.explained(chosen)))
        return min(count, dataset.count or count)
    if dataset.phantom:
        return dataset.phantom.patients + dataset.phantom.controls
    if dataset.oasis:
        return dataset.oasis.subjects or OASIS_SUBJECTS
    return len(mended_by_the_user(read_table, dataset.table, dataset.part(Columns)))


@cache
def images_of(dataset):
    """Files of a dataset of images."""
    from preddiff.datasets.images import list_images

    chosen = study.datasets[dataset]
    entries = mended_by_the_user(
        partial(
            list_images,
            chosen.images,
            file_column=chosen.file_column,
            class_column=chosen.class_column,
        )
    )
    return [entry.file for entry in entries]


def files_of(dataset):
    """Files that a dataset of images depends on; missing ones are left to the rule to report.

    Of very many images, the sheet or the folder alone: a new or a lost image is noticed then, a
    changed one is not.
    """
    chosen = study.datasets[dataset]
    images = images_of(dataset)
    files = [str(path) for path in (chosen.images, chosen.classes) if path]
    if len(images) <= TRACKED_IMAGES:
        files += [str(path) for path in images if path.is_file() and trackable(path)]
    return files


def items_per_job(explanation):
    """Items that one job explains."""
    chosen = study.explanations[explanation]
    if chosen.items_per_job:
        return chosen.items_per_job
    if not is_network(chosen.classifier):
        return 200
    side = side_of_images(explanation)
    passes = math.ceil((side - chosen.k) / chosen.stride + 1) ** 2 * chosen.samples
    return max(1, min(ITEMS_PER_JOB, PASSES_PER_JOB // passes))


def side_of_images(explanation):
    chosen = study.explanations[explanation]
    if isinstance(study.datasets[study.explained(chosen)], Digits):
        return DIGIT_SIDE
    return geometry_of(chosen.classifier).crop


def more(first):
    """A resource of which a job that failed gets more when it is tried again."""
    return lambda wildcards, attempt: first * attempt


def shards_of(explanation):
    """Markers of an explanation's shards: ranges of its items, one job each."""
    step = items_per_job(explanation)
    return [
        f"{RESULTS}/expectations/{explanation}.done/items-{first:05d}-{first + step:05d}.json"
        for first in range(0, number_of_items(explanation), step)
    ]


def localised(classifier):
    """Explanations of a classifier whose cohort has truth masks."""
    if is_network(classifier):
        return []
    if study.datasets[study.classifiers[classifier].dataset].truth is None:
        return []
    return [
        name for name, e in study.explanations.items() if e.classifier == classifier
    ]


# Explanations of the same items by the same network, whose curves of deletion are compared.
DELETIONS = {}
for name, one in study.explanations.items():
    if is_network(one.classifier):
        DELETIONS.setdefault(f"{study.explained(one)}-{one.classifier}", []).append(
            name
        )


def conditional_of(deletion):
    """The first explanation by conditional sampling, whose windows and Gaussian serve all."""
    return next((name for name in DELETIONS[deletion] if gaussian_of(name)), None)


def deletion_windows(deletion):
    """Side of the windows that are deleted."""
    chosen = conditional_of(deletion)
    windows = [chosen] if chosen else of_type(study.explanations, Explanation)
    return study.explanations[windows[0]].k if windows else 8


def classifier_of(figure):
    return study.explanations[study.figures[figure].explanations[0]].classifier


def everything():
    """All that a study makes. Shards are listed, so that a deleted marker does not go unnoticed."""
    wanted = []
    for name, explanation in study.explanations.items():
        if isinstance(explanation, Explanation):
            wanted += shards_of(name)
        wanted.append(store("relevance", name))
        if getattr(explanation, "nifti", False):
            wanted.append(f"{RESULTS}/relevance/{name}-nifti")
    for name, classifier in study.classifiers.items():
        if classifier.kind in ("logistic", "digits"):
            wanted.append(f"{RESULTS}/classifiers/{name}/cv.json")
        if localised(name):
            wanted.append(f"{RESULTS}/tables/localisation-{name}-summary.tsv")
    wanted += [
        f"{RESULTS}/tables/deletion-{name}-summary.tsv"
        for name in DELETIONS
        if conditional_of(name)
    ]
    wanted += [f"{RESULTS}/figures/{name}.png" for name in study.figures]
    return wanted


def engine_of(explanation):
    """Module whose code an explanation's expectations come from."""
    network = is_network(study.explanations[explanation].classifier)
    return f"preddiff.engines.{'incremental.engine' if network else 'linear'}"


def gpus_of(explanation):
    """GPUs that one job of an explanation uses."""
    chosen = study.explanations[explanation]
    return int(is_network(chosen.classifier) and chosen.device != "cpu")


def threads_of(explanation):
    """Cores that one job of an explanation uses."""
    network = is_network(study.explanations[explanation].classifier)
    return NETWORK_THREADS if network else 1


def folder_option(option, path):
    """Option for the store whose metadata file is an input, or nothing."""
    return f"--{option} {Path(path).parent}" if path else ""
