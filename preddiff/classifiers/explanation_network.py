"""Explanation networks: another network, with an explanation of its classes by a few features."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PrivateAttr
from torch import nn

from preddiff.classifiers.base import CLASSIFIERS, ClassifierSettings, Unit, kind_of
from preddiff.classifiers.srae import NAME, ExplanationHead, attach
from preddiff.classifiers.srae_training import Recipe
from preddiff.datasets.base import Geometry
from preddiff.settings.base import Name, Positive, Settings

# Key of its description in `classifier.json`.
ARCHITECTURE = "explanation-network"

Weight = Annotated[float, Field(ge=0)]

# Weights (alpha, beta, eta) of the losses in the published settings, for one class and for several.
_WEIGHTS = {
    ("features", False): (1.0, 15.0, 5.0),
    ("images", False): (1.0, 10.0, 10.0),
    ("features", True): (1.0, 100.0, 0.5),
    ("images", True): (50.0, 200.0, 10.0),
}
# Number of x-features, and units of the layers before them.
_FEATURES = {False: 5, True: 12}
_HIDDEN = (800, 100)


class ExplanationTraining(Settings):
    """What an explanation network explains, and how it is trained."""

    classes: list[str] = Field(
        description="names or numbers of the classes whose scores (logits) it explains",
        min_length=1,
    )
    members: Literal["labels", "scores"] = Field(
        "labels",
        description="which items count as those of a class: those with its label; or, for data "
        "with few or no labels of these classes, the tenth of the items with the highest scores",
    )
    layer: str | None = Field(
        None,
        description="layer whose activations it explains the scores by, which must not be "
        "negative; feature maps are averaged over their units; default: the last such layer "
        "before the last weights",
    )
    features: Annotated[int, Field(ge=2, lt=2**31)] | None = Field(
        None,
        description="number of x-features, at least 2; default: 5 for one class, 12 for several",
    )
    hidden: list[Positive] | None = Field(
        None,
        description="units of the layers between the activations and the x-features; default: 800 "
        "and 100, as in the paper, but at most twice and once as many as there are activations",
        min_length=1,
    )
    pull_away: Literal["features", "images"] = Field(
        "features",
        description="what the pull-away term keeps apart: features (the paper) or images (the "
        "published code)",
    )
    alpha: Weight | None = Field(
        None, description="weight of faithfulness; default: the published one (docs/methods.md)"
    )
    beta: Weight | None = Field(
        None,
        description="weight of sparse reconstruction; default: the published one (docs/methods.md)",
    )
    eta: Weight | None = Field(
        None,
        description="weight of the pull-away term; default: the published one (docs/methods.md)",
    )
    q: Annotated[float, Field(gt=0)] = Field(
        100.0, description="sparseness q of the reconstruction's errors, log(1 + q error)"
    )
    epochs: Positive = Field(
        120, description="number of passes over the training items in each round"
    )
    batch_size: Annotated[int, Field(ge=2, lt=2**31)] = Field(
        50, description="number of items per step of the training"
    )
    rounds: Positive = Field(
        5,
        description="largest number of trainings, until at least two features carry each score",
    )
    others: Positive = Field(8000, description="largest number of training items of other classes")

    def recipe(self, units: int) -> Recipe:
        """Recipe of the training on a layer of some units, with the defaults filled in."""
        several = len(self.classes) > 1
        given = (self.alpha, self.beta, self.eta)
        published = _WEIGHTS[self.pull_away, several]
        alpha, beta, eta = (
            default if one is None else one for one, default in zip(given, published, strict=True)
        )
        return Recipe(
            hidden=tuple(self.hidden or (min(2 * units, _HIDDEN[0]), min(units, _HIDDEN[1]))),
            features=self.features or _FEATURES[several],
            alpha=alpha,
            beta=beta,
            eta=eta,
            q=self.q,
            pull_away=self.pull_away,
            epochs=self.epochs,
            batch_size=self.batch_size,
            rounds=self.rounds,
        )


@CLASSIFIERS.register
class ExplanationNetworkClassifier(ClassifierSettings, ExplanationTraining):
    """Another network of the study, with a network that explains its scores by a few x-features."""

    command: ClassVar[str] = "train-explanation-network"
    files: ClassVar[tuple[str, ...]] = (
        "weights.safetensors",
        "decoder.safetensors",
        "xnn.json",
        "cv.json",
    )

    kind: Literal["explanation-network"] = Field(description="explanation-network")
    classifier: Name = Field(description="name of the network that it explains")
    dataset: Name | None = Field(
        None,
        description="dataset that it is trained on; default: that of the network that it explains",
    )

    _base: ClassifierSettings | None = PrivateAttr(None)

    @property
    def base_classifier(self) -> str:
        """Name of the network that it explains."""
        return self.classifier

    def on(self, base: ClassifierSettings) -> "ExplanationNetworkClassifier":
        """Return these settings with the network that it explains."""
        found = self.model_copy()
        found._base = base
        return found

    @property
    def base(self) -> ClassifierSettings:
        """Settings of the network that it explains."""
        assert self._base is not None
        return self._base

    @property
    def dimensions(self) -> int:
        """Number of spatial axes of the network's inputs."""
        return self.base.dimensions

    @property
    def channels(self) -> int | None:
        """Channels of the network's input."""
        return self.base.channels

    @property
    def space(self) -> tuple[int, ...] | None:
        """Spatial shape of the network's input."""
        return self.base.space

    @property
    def geometry(self) -> Geometry | None:
        """How images are resized and cropped for the network."""
        return self.base.geometry

    @property
    def training_dataset(self) -> str | None:
        """The dataset that is set, or that of the network."""
        return self.dataset or self.base.training_dataset

    @property
    def stage_settings(self) -> Settings:
        """Settings of the training."""
        return self.part(ExplanationTraining)

    @property
    def code(self) -> tuple[str, ...]:
        """Definitions that the output depends on, those of the network included."""
        return (*self.code_of_network(), *self.base.code)

    @classmethod
    def unit(cls, architecture: Mapping[str, Any], layer: str, number: int) -> Unit | None:
        """Return the x-feature of a unit of the head, and the class of a contribution."""
        about = architecture[ARCHITECTURE]
        if layer == f"{NAME}.features":
            return Unit(f"x-feature {number}")
        if layer == f"{NAME}.contributions":
            place, feature = divmod(number, about["sizes"][-1])
            return Unit(f"x-feature {feature}", about["classes"][place])
        return None

    @classmethod
    def rebuild(cls, architecture: Mapping[str, Any], classes: int, folder: Path) -> nn.Module:
        """Build the network that it explains, and attach the head."""
        about = architecture[ARCHITECTURE]
        base = about["network"]
        network = CLASSIFIERS[kind_of(base)].rebuild(base, classes, folder)
        head = ExplanationHead(about["sizes"], len(about["classes"]))
        return attach(network.eval(), about["layer"], head, about["axes"])

    @classmethod
    def code_of_stored(cls, architecture: Mapping[str, Any]) -> tuple[str, ...]:
        """Definitions that the output of a stored network depends on, with those of its base."""
        base = architecture[ARCHITECTURE]["network"]
        return (*cls.code_of_network(), *CLASSIFIERS[kind_of(base)].code_of_stored(base))


def describe(
    network: Mapping[str, Any],
    layer: str,
    axes: int,
    sizes: Sequence[int],
    classes: Sequence[int],
) -> dict[str, Any]:
    """Describe an explanation network, so that `rebuild` can build it again.

    Parameters
    ----------
    network : mapping
        Description of the network that it explains.
    layer : str
    axes : int
        Number of spatial axes of the layer.
    sizes : sequence of int
        Units of the head's layers.
    classes : sequence of int
        Numbers of the classes whose scores it explains.
    """
    about = {"network": dict(network), "layer": layer, "axes": axes}
    return {ARCHITECTURE: {**about, "sizes": list(sizes), "classes": list(classes)}}
