"""A study: everything that one configuration file describes, with checks across its sections."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeAlias

from pydantic import Field, model_validator

from preddiff.classifiers.base import CLASSIFIERS, ClassifierSettings, no_folds
from preddiff.datasets.base import DATASETS, DatasetSettings
from preddiff.errors import InputError
from preddiff.figures.base import FIGURES, FigureSettings
from preddiff.methods.base import METHODS, MethodSettings
from preddiff.methods.prediction_difference import no_exact_form
from preddiff.samplers.base import SAMPLERS, SamplerSettings
from preddiff.settings.base import Name, Positive, Seed, Settings, read_yaml, unknown, validate
from preddiff.settings.several import with_several
from preddiff.targets import LAYER, Target
from preddiff.windows import Surroundings, Windows

if TYPE_CHECKING:
    Dataset: TypeAlias = DatasetSettings
    Classifier: TypeAlias = ClassifierSettings
    Sampler: TypeAlias = SamplerSettings
    Explanation: TypeAlias = MethodSettings
    Figure: TypeAlias = FigureSettings
else:
    Dataset, Classifier, Sampler = DATASETS.union(), CLASSIFIERS.union(), SAMPLERS.union()
    Explanation, Figure = METHODS.union(), FIGURES.union()

_ITEMS = {2: "images", 3: "volumes"}
# Ends of the names of derived tables; names of tables also end in the name of a classifier.
_TABLE_SUFFIXES = ("-summary", "-curves")


class Study(Settings):
    """A study: everything that one configuration file describes."""

    kinds_at: ClassVar[dict[str, int]] = dict.fromkeys(
        ("datasets", "classifiers", "samplers", "explanations", "figures"), 2
    )

    study: Name = Field(description="name of the study; results are written to results/<study>")
    seed: Seed = Field(0, description="random seed of the study")
    datasets: Annotated[dict[Name, Dataset], Field(min_length=1)] = Field(
        description="datasets, by name"
    )
    classifiers: Annotated[dict[Name, Classifier], Field(min_length=1)] = Field(
        description="classifiers, by name"
    )
    samplers: dict[Name, Sampler] = Field({}, description="samplers, by name")
    explanations: Annotated[dict[Name, Explanation], Field(min_length=1)] = Field(
        description="explanations, by name"
    )
    figures: dict[Name, Figure] = Field({}, description="figures, by name")
    page_items: Positive | None = Field(
        None,
        description="number of images or subjects, at most, of each page to explore, "
        "results/<study>/pages/<data>.html, of at most 60 MB; there is one for each data store "
        "whose items are explained; default: no pages",
    )
    random_orders: Positive = Field(
        5,
        description="number of random orders that deletion and insertion curves are compared with",
    )
    keep_numbers_of: str | None = Field(
        None,
        description="earlier version of preddiff, such as 0.1.0, whose expectations are accepted "
        "although the code that computes them has changed; default: they are set aside and "
        "computed again",
    )

    @model_validator(mode="before")
    @classmethod
    def _with_several(cls, data: Any) -> Any:
        return with_several(data) if isinstance(data, dict) else data

    @model_validator(mode="after")
    def _check_consistency(self) -> "Study":
        for name, classifier in self.classifiers.items():
            if classifier.base_classifier is not None:
                base = self._base_of(f"classifiers.{name}.classifier", classifier.base_classifier)
                self.classifiers[name] = classifier.on(base)
        for name, classifier in self.classifiers.items():
            if name.endswith(_TABLE_SUFFIXES):
                raise ValueError(
                    f"classifiers.{name}: names that end in {' or '.join(_TABLE_SUFFIXES)} are "
                    "reserved for tables: choose another name"
                )
            self._check_training(f"classifiers.{name}", classifier)
        for name, sampler in self.samplers.items():
            if sampler.dataset is not None:
                _require_known(f"samplers.{name}.dataset", sampler.dataset, self.datasets)
        for name, explanation in self.explanations.items():
            self._check_explanation(f"explanations.{name}", explanation)
        for name, figure in self.figures.items():
            self._check_figure(f"figures.{name}", figure)
        return self

    def explained_dataset(self, explanation: MethodSettings) -> str:
        """Name of the dataset whose items are explained."""
        classifier = self.classifiers[explanation.classifier]
        name = explanation.dataset or classifier.training_dataset
        if name is None:
            raise ValueError("dataset: this key is required, because the classifier has no dataset")
        return name

    def sampler_of(self, explanation: MethodSettings) -> SamplerSettings | None:
        """Sampler of an explanation; None if it does not redraw windows."""
        name = explanation.sampler_name
        return None if name is None else self.samplers[name]

    def sampled_dataset(self, explanation: MethodSettings) -> str:
        """Name of the dataset that provides patches and donors for an explanation's sampler."""
        sampler = self.sampler_of(explanation)
        return (sampler.dataset if sampler else None) or self.explained_dataset(explanation)

    def _base_of(self, where: str, name: str) -> ClassifierSettings:
        _require_known(where, name, self.classifiers)
        base = self.classifiers[name]
        if base.base_classifier is not None:
            raise ValueError(
                f"{where}: '{name}' explains a network itself: name the network that it explains, "
                f"'{base.base_classifier}'"
            )
        if not base.is_network or not base.has_layers:
            raise ValueError(f"{where}: '{name}' has no layers; name a network")
        return base

    def _check_training(self, where: str, classifier: ClassifierSettings) -> None:
        name = classifier.training_dataset
        if name is None:
            if classifier.base_classifier is not None:
                raise ValueError(
                    f"{where}.dataset: this key is required, because classifier "
                    f"'{classifier.base_classifier}' has no dataset"
                )
            return
        _require_known(f"{where}.dataset", name, self.datasets)
        _check_fit(f"{where}.dataset", classifier, name, self.datasets[name])
        problem = classifier.problem_with(self.datasets[name])
        if problem is not None:
            raise ValueError(f"{where}.{problem}")

    def _check_explanation(self, where: str, explanation: MethodSettings) -> None:
        _require_known(f"{where}.classifier", explanation.classifier, self.classifiers)
        classifier = self.classifiers[explanation.classifier]
        if explanation.dataset is not None:
            _require_known(f"{where}.dataset", explanation.dataset, self.datasets)
        try:
            name = self.explained_dataset(explanation)
        except ValueError as error:
            raise ValueError(f"{where}.{error}") from None
        dataset = self.datasets[name]
        _check_fit(where, classifier, name, dataset)
        if explanation.needs_layers and not classifier.has_layers:
            raise ValueError(
                f"{where}.classifier: the method needs a classifier with hidden layers, which "
                f"'{explanation.classifier}' does not have: choose a network"
            )
        if explanation.held_out and not classifier.has_folds:
            raise ValueError(
                f"{where}.held_out: classifier '{explanation.classifier}' {no_folds()}"
            )
        self._check_targets(where, explanation, classifier)
        if explanation.sampler_name is not None:
            self._check_sampler(where, explanation, classifier, dataset)
        if explanation.nifti and dataset.dimensions != 3:
            raise ValueError(f"{where}.nifti: NIfTI files are written for volumes only")

    def _check_targets(
        self, where: str, explanation: MethodSettings, classifier: ClassifierSettings
    ) -> None:
        for text in explanation.targets or []:
            if not text.startswith(LAYER):
                problem = Target.parse(text).problem_with_outputs(classifier.has_probabilities)
                if problem is not None:
                    raise ValueError(f"{where}.targets: {problem}")
        if classifier.ranks_classes or classifier.training_dataset is None:
            return
        classes = classifier.names_of_outputs(self.datasets[classifier.training_dataset])
        for text in explanation.targets or []:
            is_map = text.startswith(LAYER) or Target.parse(text).kind == "map"
            if is_map and classifier.has_layers:
                continue
            if is_map or Target.parse(text).label not in classes:
                raise ValueError(
                    f"{where}.targets: '{text}' is not a class; the classes are {_listed(classes)}"
                )

    def _softmax_targets(
        self, explanation: MethodSettings, classifier: ClassifierSettings
    ) -> list[str]:
        """Targets of a linear classifier that are probabilities of more than two classes."""
        name = classifier.training_dataset
        if name is None or not classifier.has_probabilities:
            return []
        classes = classifier.names_of_outputs(self.datasets[name])
        if len(classes) <= 2:
            return []
        targets = explanation.targets or [f"probability:{classes[-1]}"]
        return [text for text in targets if Target.parse(text).kind == "probability"]

    def _check_sampler(
        self,
        where: str,
        explanation: MethodSettings,
        classifier: ClassifierSettings,
        dataset: DatasetSettings,
    ) -> None:
        name = explanation.sampler_name
        assert name is not None
        _require_known(f"{where}.sampler", name, self.samplers)
        sampler = self.samplers[name]
        if sampler.needs_surroundings:
            _check_surroundings(where, name, explanation)
        if getattr(explanation, "beyond_slab", None) and not sampler.sees_items:
            raise ValueError(
                f"{where}.beyond_slab: windows cannot overlap the borders of the slab, because "
                f"sampler '{name}' is given the slab only: remove beyond_slab, or the sampler's "
                "surroundings: input"
            )
        if getattr(explanation, "estimator", None) == "exact":
            _check_exact(where, name, sampler, classifier)
            drawn = self._softmax_targets(explanation, classifier)
            if drawn:
                raise ValueError(f"{where}.estimator: {no_exact_form(linear=True, targets=drawn)}")
        if getattr(explanation, "accuracy", None) is not None and classifier.has_exact_form:
            raise ValueError(
                f"{where}.accuracy: classifier '{explanation.classifier}' is linear, and is "
                "explained exactly, without draws: remove it"
            )
        if sampler.depends_on_location and dataset.dimensions != 3:
            raise ValueError(f"{where}.sampler: a Gaussian by location (grid) needs volumes")
        source = self.datasets[self.sampled_dataset(explanation)]
        if (source.dimensions, source.channels) != (dataset.dimensions, dataset.channels):
            raise ValueError(
                f"{where}.sampler: '{name}' is fitted on dataset "
                f"'{self.sampled_dataset(explanation)}', which contains {_described(source)}, but "
                f"the explained items are {_described(dataset)}"
            )

    def _check_figure(self, where: str, figure: FigureSettings) -> None:
        for name in figure.explanations:
            _require_known(f"{where}.explanations", name, self.explanations)
        explanations = [self.explanations[name] for name in figure.explanations]
        for explanation in explanations:
            dimensions = self.datasets[self.explained_dataset(explanation)].dimensions
            if dimensions != figure.dimensions:
                raise ValueError(
                    f"{where}.kind: figures of kind {FIGURES.name_of(type(figure))} show "
                    f"{_ITEMS[figure.dimensions]} only"
                )
        problem = figure.problem_with(explanations)
        if problem is not None:
            raise ValueError(f"{where}.explanations: {problem}")


def _check_fit(
    where: str, classifier: ClassifierSettings, name: str, dataset: DatasetSettings
) -> None:
    """Check that a classifier accepts the items of a dataset."""
    wanted = (classifier.dimensions, classifier.channels or dataset.channels)
    fits = (dataset.dimensions, dataset.channels) == wanted and (
        None in (classifier.space, dataset.space) or classifier.space == dataset.space
    )
    if classifier.space is not None and dataset.space is None:
        fits = False
    if not fits:
        raise ValueError(
            f"{where}: the classifier takes {_ITEMS[classifier.dimensions]}"
            f"{_channels(classifier.channels)}{_size(classifier.space)}, but dataset '{name}' "
            f"contains {_described(dataset)}"
        )


def _check_surroundings(where: str, sampler: str, explanation: MethodSettings) -> None:
    """Check that windows can be at the centre of their surroundings."""
    k, l = explanation.window_side, getattr(explanation, "l", None)
    if l is None:
        raise ValueError(
            f"{where}.l: this key is required, because sampler '{sampler}' conditions on "
            "surroundings"
        )
    try:
        Surroundings(Windows((max(k, l),), k), l)
    except InputError as error:
        raise ValueError(f"{where}.l: {error}") from None


def _check_exact(
    where: str, name: str, sampler: SamplerSettings, classifier: ClassifierSettings
) -> None:
    if not classifier.has_exact_form:
        raise ValueError(
            f"{where}.estimator: there are no exact expectations for networks: set it to samples"
        )
    if not sampler.has_exact_form(classifier.dimensions):
        raise ValueError(
            f"{where}.estimator: there are no exact expectations for sampler '{name}': set it to "
            "samples"
        )


def _described(dataset: DatasetSettings) -> str:
    return f"{_ITEMS[dataset.dimensions]}{_channels(dataset.channels)}{_size(dataset.space)}"


def _channels(count: int | None) -> str:
    if count is None:
        return ""
    return " of one channel" if count == 1 else f" of {count} channels"


def _size(space: tuple[int, ...] | None) -> str:
    return "" if space is None else f" and {' x '.join(map(str, space))} pixels"


def _listed(classes: tuple[str, ...]) -> str:
    return " and ".join(f"'{label}'" for label in classes)


def _require_known(where: str, name: str, among: dict[str, Any]) -> None:
    if name not in among:
        raise ValueError(f"{where}: {unknown(name, list(among), 'name')}")


def load(path: Path) -> Study:
    """Read and validate a study's configuration.

    Raises
    ------
    InputError
        If the file is missing, is not YAML, or has an invalid key or value.
    """
    return validate(Study, read_yaml(path), str(path))
