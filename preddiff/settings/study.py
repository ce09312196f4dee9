"""Settings of a study: the keys of a configuration file, their defaults and their bounds."""

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from preddiff.errors import InputError
from preddiff.targets import Target, check_target

# Names become parts of file names, so that they hold nothing that a path or a shell could read.
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=64)]
# Items are called as their files or tables call them; a command line would read these as options.
ItemName = Annotated[str, StringConstraints(pattern=r"^[^-]")]
Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]


Model = TypeVar("Model", bound="Settings")


class Settings(BaseModel):
    """Base of all settings: unknown keys are refused by name, with the nearest valid one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, data: Any) -> Any:
        if isinstance(data, dict):
            for key in data:
                if key not in cls.model_fields:
                    raise ValueError(_unknown(str(key), list(cls.model_fields)))
        return data

    def part(self, model: type[Model]) -> Model:
        """Return the settings of a base of this model: what one stage depends on."""
        return model(**{key: getattr(self, key) for key in model.model_fields})


def _unknown(key: str, valid: list[str]) -> str:
    near = difflib.get_close_matches(key, valid, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'?" if near else f"valid keys are {', '.join(valid)}"
    return f"unknown key '{key}': {hint}"


class Phantom(Settings):
    """A cohort whose truth is known, written as ordinary NIfTI files (`preddiff phantom`)."""

    patients: Positive = Field(100, description="number of patients")
    controls: Positive = Field(70, description="number of healthy controls")


class Oasis(Settings):
    """The public OASIS cohort, fetched by nilearn (`preddiff fetch-oasis`)."""

    subjects: Positive | None = Field(None, description="number of subjects to fetch; all if null")
    tissue: Literal["gm", "wm"] = Field("gm", description="grey or white matter maps")
    age_gap: Annotated[float, Field(ge=0)] = Field(
        3, description="largest difference in age, in years, of a patient and the control matched"
    )
    data_dir: Path | None = Field(
        None, description="where nilearn keeps downloads; its own default"
    )


class Columns(Settings):
    """Which columns of the cohort's table to read, and what they mean (`preddiff prepare`)."""

    subject: str = Field("participant_id", description="column with the subjects' names")
    group: str = Field("group", description="column with the subjects' classes")
    file: str = Field("fa", description="column with the NIfTI files, relative to the table")
    truth: str | None = Field(
        None, description="column with masks of planted or known lesions, if there are any"
    )
    classes: tuple[str, str] = Field(
        ("control", "patient"),
        description="the two values of the group column; evidence is for the second",
    )
    balance: bool = Field(
        True, description="train on equally many subjects of both classes, the first of the larger"
    )

    @field_validator("classes")
    @classmethod
    def _different(cls, classes: tuple[str, str]) -> tuple[str, str]:
        if classes[0] == classes[1]:
            raise ValueError("give two different classes")
        return classes


class Cohort(Columns):
    """A cohort of volumes: a table of subjects and their NIfTI files, given or made."""

    table: Path | None = Field(None, description="tab- or comma-separated table of the subjects")
    phantom: Phantom | None = Field(None, description="instead of a table: make the phantom cohort")
    oasis: Oasis | None = Field(None, description="instead of a table: fetch the OASIS cohort")

    @model_validator(mode="after")
    def _one_source(self) -> "Cohort":
        given = [name for name in ("table", "phantom", "oasis") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                "give exactly one of table, phantom and oasis (or images, or digits, for images)"
            )
        return self


class ImageSet(Settings):
    """A dataset of image files (`preddiff prepare-images`)."""

    images: Path = Field(
        description="sheet of files (.tsv, .csv), folder with one folder of images per class (the "
        "layout of ILSVRC), or flat folder of images"
    )
    file_column: str = Field("file", description="column of the sheet with files, relative to it")
    class_column: str = Field(
        "class", description="column of the sheet with classes: names, ids or numbers from 0"
    )
    classes: Path | None = Field(
        None,
        description="table of all classes (class_index, wnid, class_name), which tells the "
        "numbers of ids and names; needed where folders are only some of a network's classes",
    )
    count: Positive | None = Field(
        None, description="how many images to take, at random; all if null"
    )
    strict: bool = Field(
        False, description="stop at an image that cannot be read, instead of listing it"
    )


class DigitSettings(Settings):
    """How scikit-learn's handwritten digits are divided (`preddiff prepare-digits`)."""

    test: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.25, description="share of the images that is kept for testing and explained"
    )


class Digits(Settings):
    """The 1,797 handwritten digits that scikit-learn carries: real images without a download."""

    digits: DigitSettings = Field(description="how the digits are divided; {} for the defaults")


def _dataset_kind(data: Any) -> str:
    keys = data if isinstance(data, dict) else type(data).model_fields
    return next((key for key in ("images", "digits") if key in keys), "cohort")


Dataset = Annotated[
    Annotated[Cohort, Tag("cohort")]
    | Annotated[ImageSet, Tag("images")]
    | Annotated[Digits, Tag("digits")],
    Discriminator(_dataset_kind),
]


class Slab(Settings):
    """The part of the volumes that the classifier sees: consecutive slices along one axis."""

    axis: Annotated[int, Field(ge=0, le=2)] = Field(0, description="axis of the slices")
    slices: tuple[int, int] = Field((29, 40), description="first and last slice, from 0, inclusive")

    @field_validator("slices")
    @classmethod
    def _ascending(cls, slices: tuple[int, int]) -> tuple[int, int]:
        if not 0 <= slices[0] <= slices[1]:
            raise ValueError("give the first and the last slice, counted from 0")
        return slices


class Logistic(Slab):
    """The L2 logistic regression (`preddiff train`)."""

    C: Annotated[float, Field(gt=0)] | list[Annotated[float, Field(gt=0)]] = Field(
        1.0,
        description="inverse strength of the L2 penalty, or a list to choose from by inner "
        "cross-validation",
    )
    folds: Annotated[int, Field(ge=2)] = Field(10, description="folds of the cross-validation")
    inner_folds: Annotated[int, Field(ge=2)] = Field(
        5, description="folds of the inner cross-validation that chooses C"
    )


class LogisticClassifier(Logistic):
    """The paper's MRI classifier, trained on a cohort by L2 logistic regression."""

    kind: Literal["logistic"] = Field(description="logistic")
    dataset: Name = Field(description="name of the cohort that it is trained on")


class DigitTraining(Settings):
    """How the small convolutional network is trained (`preddiff train-digits`)."""

    epochs: Positive = Field(30, description="passes over the training images")
    width: Positive = Field(16, description="feature maps of the first layer")


class DigitClassifier(DigitTraining):
    """A small convolutional network, trained on the digits in seconds."""

    kind: Literal["digits"] = Field(description="digits")
    dataset: Name = Field(description="name of the dataset of digits")


class Geometry(Settings):
    """How image files become inputs of one size."""

    resize: Positive | None = Field(
        None,
        description="pixels of the shorter side after resizing; as the network's own weights ask "
        "for if null",
    )
    crop: Positive | None = Field(
        None,
        description="side of the central square that is cut out; as the network's own weights ask "
        "for if null",
    )


Channels = list[float]


class Preprocessing(Geometry):
    """How pixels, from 0 to 1, become a network's inputs."""

    mean: Channels | None = Field(
        None, description="subtracted from each channel; as the network's own weights ask for"
    )
    std: Channels | None = Field(
        None, description="divides each channel; as the network's own weights ask for if null"
    )


class NetworkSettings(Preprocessing):
    """What a network was trained on, and how its inputs are made."""

    classes: Path | None = Field(
        None,
        description="names of the classes: text file with one a line, or table (class_index, "
        "class_name); as the network's own weights have them if null",
    )
    training_size: Positive = Field(
        1_281_167, description="number N of images it was trained on, for the Laplace correction"
    )


class TorchvisionSettings(NetworkSettings):
    """A network of torchvision (`preddiff torchvision`)."""

    name: str = Field(description="torchvision's name: alexnet, googlenet, vgg16, ...")
    weights: str = Field(
        "DEFAULT",
        description="torchvision's name of weights (downloaded at first use), or a state dict: "
        "path of a .pth or .safetensors file",
    )


class TorchvisionClassifier(TorchvisionSettings):
    """A network of torchvision, with its own weights or yours."""

    kind: Literal["torchvision"] = Field(description="torchvision")


class ModuleSettings(NetworkSettings):
    """A network of your own (`preddiff module`)."""

    module: Annotated[str, StringConstraints(pattern=r"^.+\.py:[A-Za-z_]\w*$")] = Field(
        description="path/to/file.py:factory, a function without arguments that returns a module"
    )
    weights: Path | None = Field(
        None, description="state dict to load into it (.pth, .safetensors); none if null"
    )

    @model_validator(mode="after")
    def _complete(self) -> "ModuleSettings":
        for key in ("crop", "mean", "std"):
            if getattr(self, key) is None:
                raise ValueError(f"{key} is required: nothing tells it of a network of your own")
        return self


class ModuleClassifier(ModuleSettings):
    """A network of your own."""

    kind: Literal["module"] = Field(description="module")


Classifier = Annotated[
    LogisticClassifier | TorchvisionClassifier | ModuleClassifier | DigitClassifier,
    Field(discriminator="kind"),
]


class GaussianSettings(Settings):
    """How the patch Gaussian is fitted (`preddiff gaussian`)."""

    patches: Positive = Field(100_000, description="patches that the global Gaussian is fitted on")
    shrinkage: Share | None = Field(
        None, description="share of the scaled identity; the OAS estimator's if null"
    )
    grid: tuple[Positive, Positive, Positive] | None = Field(
        None, description="cells of a grid over the volume, for one Gaussian per cell; null: global"
    )
    channels: Literal["joint", "independent"] = Field(
        "joint",
        description="one Gaussian over all channels, as in the paper, or one for each channel",
    )
    cell_patches: Positive = Field(5000, description="patches that a cell's Gaussian is fitted on")
    strength: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="number of patches that the global Gaussian counts for in a cell; "
        "the number of voxels in a patch if null",
    )


class SamplerSettings(GaussianSettings):
    """What redraws a window (`preddiff open`)."""

    kind: Literal["conditional", "marginal", "grey"] = Field(
        description="conditional (patch Gaussian), marginal (other items) or grey (a constant)"
    )
    clip: bool | None = Field(
        None,
        description="cut conditional draws to the range of the training items, which needs "
        "estimator samples; if null for images, not for volumes",
    )
    value: float | None = Field(
        None, description="constant of the grey sampler; the training items' mean if null"
    )


class Sampler(SamplerSettings):
    """What redraws a window."""

    dataset: Name | None = Field(
        None,
        description="dataset that patches and donors are taken from; the explained one if null",
    )


class TargetSettings(Settings):
    """Which nodes of which items are explained."""

    targets: list[str] | None = Field(
        None,
        description="nodes to explain: probability:CLASS, logit:CLASS (CLASS: a name, a number, "
        "true, top-1, top-2, ...), layer:NAME for every feature map of a layer, layer:NAME:0,7 for "
        "some; if null the probability of a cohort's second class, or of the top class",
    )
    items: list[ItemName] | Positive | None = Field(
        None,
        description="names of the items to explain, or how many of the first; if null all of a "
        "cohort, all images that are not for training only",
    )

    @field_validator("targets")
    @classmethod
    def _readable(cls, targets: list[str] | None) -> list[str] | None:
        for target in targets or []:
            try:
                check_target(target)
            except InputError as error:
                raise ValueError(str(error)) from None
        return targets


class WindowSettings(TargetSettings):
    """Windows, estimator and targets of an explanation (`preddiff open`)."""

    k: Positive = Field(3, description="side of a window, in voxels")
    l: Positive | None = Field(
        7, description="side of the surroundings, in voxels; read by conditional samplers"
    )
    stride: Positive = Field(1, description="distance of neighbouring windows, in voxels")
    estimator: Literal["exact", "samples"] | None = Field(
        None,
        description="exact expectations, or those of S draws as in the paper; if null exact for "
        "linear classifiers, samples for networks",
    )
    samples: Annotated[int, Field(ge=2)] = Field(10, description="draws S per window")
    block: Positive | None = Field(
        None,
        description="windows per block, the unit of work that is stored and resumed; if null "
        "131072 for linear classifiers, 1024 for networks",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="where networks run; auto takes a GPU where there is one"
    )
    engine: Literal["incremental", "dense"] = Field(
        "incremental",
        description="how networks are evaluated: incremental recomputes only what a window "
        "changes, where that is less work, and else whole passes; dense always whole passes",
    )
    precision: Literal["float32", "tf32", "bfloat16"] = Field(
        "float32", description="arithmetic of networks; tf32 is for GPUs"
    )


class Explanation(WindowSettings):
    """A classifier, a sampler and windows: what is explained, and how."""

    method: Literal["prediction-difference"] = Field(
        "prediction-difference", description="prediction-difference"
    )
    classifier: Name = Field(description="name of the classifier")
    sampler: Name = Field(description="name of the sampler")
    dataset: Name | None = Field(
        None,
        description="dataset whose items are explained; the one that the classifier was trained "
        "on if null",
    )
    items_per_job: Positive | None = Field(
        None,
        description="items that one job explains; does not change results; if null 200 for linear "
        "classifiers, about an hour's work of a GPU for networks, at 50,000 passes a second",
    )
    batch_size: Positive | None = Field(
        None,
        description="inputs per forward pass of a network; if null chosen for the device",
    )
    nifti: bool = Field(False, description="write one NIfTI of the relevance for each subject")


class Sensitivity(TargetSettings):
    """A baseline of images: the sensitivity map of Simonyan et al. 2013."""

    method: Literal["sensitivity"] = Field(description="sensitivity")
    classifier: Name = Field(description="name of the network")
    dataset: Name | None = Field(
        None,
        description="dataset whose items are explained; the one that the classifier was trained "
        "on if null",
    )


def _method(data: Any) -> str:
    found = data.get("method") if isinstance(data, dict) else data.method
    return "sensitivity" if found == "sensitivity" else "prediction-difference"


AnyExplanation = Annotated[
    Annotated[Explanation, Tag("prediction-difference")]
    | Annotated[Sensitivity, Tag("sensitivity")],
    Discriminator(_method),
]


class MapSettings(Settings):
    """How relevance is coloured."""

    threshold: Share = Field(
        0.15,
        description="share of the absolute maximum above which voxels are shown; "
        "at most 0.1 for volumes and windows of k = 2",
    )
    colormap: str = Field("RdBu_r", description="Matplotlib colour map; red for, blue against")

    @field_validator("colormap")
    @classmethod
    def _known_colormap(cls, name: str) -> str:
        # Imported where needed, for it takes long.
        from matplotlib import colormaps

        if name not in colormaps:
            near = difflib.get_close_matches(name, list(colormaps), n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise ValueError(f"Matplotlib has no colour map '{name}'{hint}")
        return name


class FigureSettings(MapSettings):
    """What a figure of volumes shows, and how (`preddiff figure`)."""

    kind: Literal["weights", "subjects", "slices", "patch-sizes"] = Field(
        description="weights (figure 9), subjects (10), slices (11) or patch-sizes (12)"
    )
    item: ItemName | None = Field(
        None,
        description="subject to show; if null the one of the second class that the classifier "
        "is surest of",
    )
    slices: list[int] = Field([29, 40], description="slices to show, along the classifier's axis")
    per_class: Positive = Field(4, description="subjects of each class in a subjects figure")


class Figure(FigureSettings):
    """A figure of volumes, after the paper's."""

    explanations: list[Name] = Field(
        description="explanations to show: one, or several for patch-sizes", min_length=1
    )


class ImageFigureSettings(MapSettings):
    """What a figure of images shows, and how (`preddiff image-figure`)."""

    kind: Literal["sensitivity", "compare", "maps", "classes"] = Field(
        description="sensitivity (figures 1 and 13), compare (several explanations side by side: "
        "3, 4 and 8), maps (feature maps: 5 and 6) or classes (top classes: 7)"
    )
    items: list[ItemName] | Positive = Field(
        3, description="names of the images to show, or how many of the first"
    )
    targets: list[str] | None = Field(
        None,
        description="targets to show, as the store names them; if null the first of each "
        "explanation, the first three maps of each layer, or the top three classes",
    )


class ImageFigure(ImageFigureSettings):
    """A figure of images, after the paper's."""

    explanations: list[Name] = Field(
        description="explanations to show: the sensitivity map and one more, several to compare, "
        "one otherwise",
        min_length=1,
    )


AnyFigure = Annotated[Figure | ImageFigure, Field(discriminator="kind")]


class Study(Settings):
    """A study: everything that one configuration file describes."""

    study: Name = Field(description="name of the study; its results go to results/<study>")
    seed: Annotated[int, Field(ge=0)] = Field(0, description="seed of everything that is random")
    datasets: dict[Name, Dataset] = Field(description="datasets, by name", min_length=1)
    classifiers: dict[Name, Classifier] = Field(description="classifiers, by name", min_length=1)
    samplers: dict[Name, Sampler] = Field({}, description="samplers, by name")
    explanations: dict[Name, AnyExplanation] = Field(
        description="explanations, by name", min_length=1
    )
    figures: dict[Name, AnyFigure] = Field({}, description="figures, by name")
    random_orders: Positive = Field(
        5, description="random orders that deletion and insertion curves are compared with"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> "Study":
        for name, classifier in self.classifiers.items():
            self._check_classifier(f"classifiers.{name}", classifier)
        for name, sampler in self.samplers.items():
            if sampler.dataset is not None:
                _known(f"samplers.{name}.dataset", sampler.dataset, self.datasets)
        for name, explanation in self.explanations.items():
            self._check_explanation(f"explanations.{name}", explanation)
        for name, figure in self.figures.items():
            self._check_figure(f"figures.{name}", figure)
        return self

    def explained(self, explanation: Explanation | Sensitivity) -> str:
        """Name of the dataset whose items are explained."""
        classifier = self.classifiers[explanation.classifier]
        name = explanation.dataset or getattr(classifier, "dataset", None)
        if name is None:
            raise ValueError("dataset: this key is required, for the classifier has no dataset")
        return str(name)

    def learnt_from(self, explanation: Explanation) -> str:
        """Name of the dataset that an explanation's sampler takes patches and donors from."""
        return self.samplers[explanation.sampler].dataset or self.explained(explanation)

    def _check_classifier(self, where: str, classifier: Any) -> None:
        if classifier.kind not in ("logistic", "digits"):
            return
        _known(f"{where}.dataset", classifier.dataset, self.datasets)
        wanted = Cohort if classifier.kind == "logistic" else Digits
        if not isinstance(self.datasets[classifier.dataset], wanted):
            raise ValueError(
                f"{where}.dataset: a {classifier.kind} classifier is trained on a dataset of "
                f"{'volumes' if wanted is Cohort else 'digits'}, which "
                f"'{classifier.dataset}' is not"
            )

    def _check_explanation(self, where: str, explanation: Explanation | Sensitivity) -> None:
        _known(f"{where}.classifier", explanation.classifier, self.classifiers)
        classifier = self.classifiers[explanation.classifier]
        if explanation.dataset is not None:
            _known(f"{where}.dataset", explanation.dataset, self.datasets)
        try:
            dataset = self.datasets[self.explained(explanation)]
        except ValueError as error:
            raise ValueError(f"{where}.{error}") from None
        volumes = isinstance(dataset, Cohort)
        if volumes != (classifier.kind == "logistic"):
            raise ValueError(
                f"{where}: a {classifier.kind} classifier cannot explain "
                f"{'volumes' if volumes else 'images'}"
            )
        if isinstance(dataset, Cohort):
            _check_cohort_targets(where, explanation, dataset.classes)
        if isinstance(explanation, Explanation):
            self._check_sampler(where, explanation, volumes)
        elif volumes:
            raise ValueError(f"{where}.method: sensitivity maps are of networks")

    def _check_sampler(self, where: str, explanation: Explanation, volumes: bool) -> None:
        _known(f"{where}.sampler", explanation.sampler, self.samplers)
        sampler = self.samplers[explanation.sampler]
        if sampler.kind == "conditional" and explanation.l is None:
            raise ValueError(f"{where}.l: a conditional sampler needs surroundings")
        if explanation.estimator == "exact" and not volumes:
            raise ValueError(f"{where}.estimator: networks have no exact form: set it to samples")
        if sampler.clip and volumes and explanation.estimator != "samples":
            raise ValueError(
                f"{where}.estimator: sampler '{explanation.sampler}' clips its draws, "
                "which has no exact form: set it to samples"
            )
        if sampler.grid is not None and not volumes:
            raise ValueError(f"{where}.sampler: a Gaussian by location (grid) is for volumes")
        if isinstance(self.datasets[self.learnt_from(explanation)], Cohort) != volumes:
            raise ValueError(
                f"{where}.sampler: '{explanation.sampler}' learns from "
                f"{'images' if volumes else 'volumes'}, the other kind of dataset"
            )
        if explanation.nifti and not volumes:
            raise ValueError(f"{where}.nifti: NIfTI files are for volumes")

    def _check_figure(self, where: str, figure: Figure | ImageFigure) -> None:
        for name in figure.explanations:
            _known(f"{where}.explanations", name, self.explanations)
        explanations = [self.explanations[name] for name in figure.explanations]
        kinds = {self.classifiers[e.classifier].kind == "logistic" for e in explanations}
        if kinds != {isinstance(figure, Figure)}:
            raise ValueError(
                f"{where}.kind: a {figure.kind} figure shows "
                f"{'volumes' if isinstance(figure, Figure) else 'images'}"
            )
        count = len(explanations)
        if figure.kind == "sensitivity":
            if sorted(e.method for e in explanations) != ["prediction-difference", "sensitivity"]:
                raise ValueError(
                    f"{where}.explanations: name one of method sensitivity and one of "
                    "prediction-difference"
                )
        elif figure.kind not in ("patch-sizes", "compare") and count > 1:
            raise ValueError(f"{where}.explanations: a {figure.kind} figure shows one")


def _check_cohort_targets(
    where: str, explanation: Explanation | Sensitivity, classes: tuple[str, str]
) -> None:
    for target in explanation.targets or []:
        if Target.parse(target).label not in classes:
            raise ValueError(
                f"{where}.targets: '{target}' is of neither class {classes[0]} nor {classes[1]}"
            )


def _known(where: str, name: str, among: dict[str, Any]) -> None:
    if name not in among:
        raise ValueError(f"{where}: {_unknown(name, list(among)).replace('key', 'name', 1)}")


def load(path: Path) -> Study:
    """Read and validate a study's configuration.

    Raises
    ------
    InputError
        If the file is missing, is not YAML, or has a wrong key or value; the message names it.
    """
    try:
        data = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{path}: no such configuration file") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not readable as YAML: {error}") from None
    return validate(Study, data, str(path))


def validate(model: type[Model], data: Any, source: str) -> Model:
    """Check settings.

    Parameters
    ----------
    model : type
    data : mapping
    source : str
        Where the settings come from, for messages.

    Raises
    ------
    InputError
        With one line per wrong key or value.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        lines = [_line(problem) for problem in error.errors(include_url=False)]
        raise InputError("\n".join(f"{source}: {line}" for line in lines)) from None


# Sections whose objects are of several kinds: pydantic names the kind after the object's name.
_SECTIONS_OF_KINDS = ("datasets", "classifiers", "explanations", "figures")


def _line(problem: Any) -> str:
    places = list(problem["loc"])
    if len(places) > 2 and places[0] in _SECTIONS_OF_KINDS:
        del places[2]
    where = ".".join(str(part) for part in places)
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "missing":
        message = "this key is required"
    if problem["type"] == "union_tag_not_found":
        message = "the key 'kind' is required"
    if problem["type"] == "union_tag_invalid":
        context = problem["ctx"]
        message = f"kind '{context['tag']}' is none of {context['expected_tags']}"
    return f"{where}: {message}" if where else message


def document() -> str:
    """Table of every key of a configuration, in Markdown: the body of config/README.md."""
    tables: list[tuple[str, type[Settings]]] = [
        ("The study", Study),
        ("`datasets.<name>` for volumes", Cohort),
        ("`datasets.<name>.phantom`", Phantom),
        ("`datasets.<name>.oasis`", Oasis),
        ("`datasets.<name>` for images", ImageSet),
        ("`datasets.<name>` for digits", Digits),
        ("`datasets.<name>.digits`", DigitSettings),
        ("`classifiers.<name>` of kind logistic", LogisticClassifier),
        ("`classifiers.<name>` of kind torchvision", TorchvisionClassifier),
        ("`classifiers.<name>` of kind module", ModuleClassifier),
        ("`classifiers.<name>` of kind digits", DigitClassifier),
        ("`samplers.<name>`", Sampler),
        ("`explanations.<name>`", Explanation),
        ("`explanations.<name>` of method sensitivity", Sensitivity),
        ("`figures.<name>` of volumes", Figure),
        ("`figures.<name>` of images", ImageFigure),
    ]
    return "\n".join(_table(title, model) for title, model in tables)


def _table(title: str, model: type[Settings]) -> str:
    lines = [f"## {title}", "", (model.__doc__ or "").strip(), "", "| key | default | meaning |"]
    lines.append("| --- | --- | --- |")
    for key, field in model.model_fields.items():
        default = "required" if field.is_required() else f"`{_default(field.default)}`"
        lines.append(f"| `{key}` | {default} | {field.description} |")
    return "\n".join([*lines, ""])


def _default(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return str(list(value)) if isinstance(value, tuple) else str(value)
