"""Settings of a study: the keys of a configuration file, their defaults and their bounds."""

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from preddiff.errors import InputError
from preddiff.targets import Target

# Names become parts of file names, so that they hold nothing that a path or a shell could read.
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=64)]
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


class Dataset(Columns):
    """A cohort: a table of subjects and their volumes, given or made."""

    table: Path | None = Field(None, description="tab- or comma-separated table of the subjects")
    phantom: Phantom | None = Field(None, description="instead of a table: make the phantom cohort")
    oasis: Oasis | None = Field(None, description="instead of a table: fetch the OASIS cohort")

    @model_validator(mode="after")
    def _one_source(self) -> "Dataset":
        given = [name for name in ("table", "phantom", "oasis") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError("give exactly one of table, phantom and oasis")
        return self


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


class Classifier(Logistic):
    """A classifier of a dataset."""

    dataset: Name = Field(description="name of the dataset that it is trained on")


class GaussianSettings(Settings):
    """How the patch Gaussian is fitted (`preddiff gaussian`)."""

    patches: Positive = Field(100_000, description="patches that the global Gaussian is fitted on")
    shrinkage: Share | None = Field(
        None, description="share of the scaled identity; the OAS estimator's if null"
    )
    grid: tuple[Positive, Positive, Positive] | None = Field(
        None, description="cells of a grid over the volume, for one Gaussian per cell; null: global"
    )
    cell_patches: Positive = Field(5000, description="patches that a cell's Gaussian is fitted on")
    strength: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="number of patches that the global Gaussian counts for in a cell; "
        "the number of voxels in a patch if null",
    )


class Sampler(GaussianSettings):
    """What redraws a window."""

    kind: Literal["conditional", "marginal", "grey"] = Field(
        description="conditional (patch Gaussian), marginal (other items) or grey (a constant)"
    )
    clip: tuple[float, float] | None = Field(
        None, description="range that conditional draws are cut to; needs estimator samples"
    )
    value: float | None = Field(
        None, description="constant of the grey sampler; the training items' mean if null"
    )


class WindowSettings(Settings):
    """Windows, estimator and targets of an explanation (`preddiff open`)."""

    k: Positive = Field(3, description="side of a window, in voxels")
    l: Positive | None = Field(
        7, description="side of the surroundings, in voxels; read by conditional samplers"
    )
    stride: Positive = Field(1, description="distance of neighbouring windows, in voxels")
    estimator: Literal["exact", "samples"] = Field(
        "exact", description="exact expectations, or those of S draws as in the paper"
    )
    samples: Annotated[int, Field(ge=2)] = Field(10, description="draws S per window")
    targets: list[str] | None = Field(
        None,
        description="nodes to explain, as probability:CLASS or logit:CLASS; "
        "the second class's probability if null",
    )
    items: list[str] | Positive | None = Field(
        None, description="names of the items to explain, or how many of the first; all if null"
    )
    block: Positive = Field(
        131_072, description="windows per block, the unit of work that is stored and resumed"
    )

    @field_validator("targets")
    @classmethod
    def _readable(cls, targets: list[str] | None) -> list[str] | None:
        for target in targets or []:
            try:
                Target.parse(target)
            except InputError as error:
                raise ValueError(str(error)) from None
        return targets


class Explanation(WindowSettings):
    """A classifier, a sampler and windows: what is explained, and how."""

    classifier: Name = Field(description="name of the classifier")
    sampler: Name = Field(description="name of the sampler")
    items_per_job: Positive = Field(
        200, description="items that one job explains; does not change results"
    )
    nifti: bool = Field(False, description="write one NIfTI of the relevance for each subject")


class FigureSettings(Settings):
    """What a figure shows, and how (`preddiff figure`)."""

    kind: Literal["weights", "subjects", "slices", "patch-sizes"] = Field(
        description="weights (figure 9), subjects (10), slices (11) or patch-sizes (12)"
    )
    item: str | None = Field(
        None,
        description="subject to show; if null the one of the second class that the classifier "
        "is surest of",
    )
    slices: list[int] = Field([29, 40], description="slices to show, along the classifier's axis")
    per_class: Positive = Field(4, description="subjects of each class in a subjects figure")
    threshold: Share = Field(
        0.15,
        description="share of the absolute maximum above which voxels are shown; "
        "at most 0.1 for windows of k = 2",
    )
    colormap: str = Field("RdBu_r", description="Matplotlib colour map; red for, blue against")


class Figure(FigureSettings):
    """A figure after the paper's."""

    explanations: list[Name] = Field(
        description="explanations to show: one, or several for patch-sizes", min_length=1
    )


class Study(Settings):
    """A study: everything that one configuration file describes."""

    study: Name = Field(description="name of the study; its results go to results/<study>")
    seed: Annotated[int, Field(ge=0)] = Field(0, description="seed of everything that is random")
    datasets: dict[Name, Dataset] = Field(description="cohorts, by name", min_length=1)
    classifiers: dict[Name, Classifier] = Field(description="classifiers, by name", min_length=1)
    samplers: dict[Name, Sampler] = Field(description="samplers, by name", min_length=1)
    explanations: dict[Name, Explanation] = Field(description="explanations, by name", min_length=1)
    figures: dict[Name, Figure] = Field({}, description="figures, by name")

    @model_validator(mode="after")
    def _names_exist(self) -> "Study":
        for name, classifier in self.classifiers.items():
            _known(f"classifiers.{name}.dataset", classifier.dataset, self.datasets)
        for name, explanation in self.explanations.items():
            where = f"explanations.{name}"
            _known(f"{where}.classifier", explanation.classifier, self.classifiers)
            _known(f"{where}.sampler", explanation.sampler, self.samplers)
            self._check(where, explanation)
        for name, figure in self.figures.items():
            for explanation_name in figure.explanations:
                _known(f"figures.{name}.explanations", explanation_name, self.explanations)
            if figure.kind != "patch-sizes" and len(figure.explanations) > 1:
                raise ValueError(f"figures.{name}.explanations: a {figure.kind} figure shows one")
        return self

    def _check(self, where: str, explanation: Explanation) -> None:
        classes = self.datasets[self.classifiers[explanation.classifier].dataset].classes
        for target in explanation.targets or []:
            if Target.parse(target).label not in classes:
                raise ValueError(
                    f"{where}.targets: '{target}' is of neither class {classes[0]} nor {classes[1]}"
                )
        sampler = self.samplers[explanation.sampler]
        if sampler.kind == "conditional" and explanation.l is None:
            raise ValueError(f"{where}.l: a conditional sampler needs surroundings")
        if sampler.clip is not None and explanation.estimator == "exact":
            raise ValueError(
                f"{where}.estimator: sampler '{explanation.sampler}' clips its draws, "
                "which has no exact form: set it to samples"
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


def _line(problem: Any) -> str:
    where = ".".join(str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "missing":
        message = "this key is required"
    return f"{where}: {message}" if where else message


def document() -> str:
    """Table of every key of a configuration, in Markdown: the body of config/README.md."""
    tables: list[tuple[str, type[Settings]]] = [
        ("The study", Study),
        ("`datasets.<name>`", Dataset),
        ("`datasets.<name>.phantom`", Phantom),
        ("`datasets.<name>.oasis`", Oasis),
        ("`classifiers.<name>`", Classifier),
        ("`samplers.<name>`", Sampler),
        ("`explanations.<name>`", Explanation),
        ("`figures.<name>`", Figure),
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
