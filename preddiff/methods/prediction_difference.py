"""Prediction difference analysis: windows are redrawn one by one, and targets evaluated again.

L. M. Zintgraf, T. S. Cohen, T. Adel, M. Welling, "Visualizing deep neural network decisions:
Prediction difference analysis", ICLR 2017, arXiv 1702.04595. Section 3 of
the paper is implemented in `preddiff.windows`, `preddiff.evidence` and
`preddiff.samplers.conditional`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, prod
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import Field, model_validator

from preddiff.classifiers.base import Classifier
from preddiff.classifiers.linear import LinearClassifier
from preddiff.classifiers.network import Network
from preddiff.classifiers.network_nodes import NetworkNodes
from preddiff.classifiers.readout import Readout
from preddiff.devices import device_of
from preddiff.engines import linear
from preddiff.engines.base import DrawingEngine, Engine
from preddiff.engines.dense import Dense
from preddiff.engines.held_out import ByModel, DrawsByModel
from preddiff.engines.incremental.engine import Incremental
from preddiff.errors import InputError
from preddiff.methods.base import METHODS, MethodSettings, TargetSettings
from preddiff.registry import Registry
from preddiff.samplers.base import SAMPLERS, SamplerSettings
from preddiff.samplers.draws import Sampler
from preddiff.settings.base import Name, Positive, Settings, or_list
from preddiff.targets import LAYER, Target
from preddiff.windows import Windows

Estimator = Literal["exact", "samples"]

# Default windows per block: seconds of work for linear classifiers, minutes for networks.
_BLOCK_EXACT_FORM, _BLOCK = 131_072, 1024
# Windows of a block times voxels of their surroundings, for linear classifiers: 1 GB.
_NUMBERS_OF_BLOCK = 2**26
DEFAULT_ACCURACY, _SAMPLES = 0.02, 10

# Estimator, in the provenance of expectations, that draws windows level by level.
LEVELS = "levels"


class WindowSettings(TargetSettings):
    """Windows, estimator and targets of an explanation (`preddiff open`)."""

    k: Positive = Field(3, description="side of a window, in voxels")
    l: Positive | None = Field(
        7, description="side of the surroundings, in voxels; used by conditional samplers"
    )
    accuracy: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None,
        description="error that a map of a network may have: its root mean square over the input, "
        "as a share of the map's largest magnitude, against windows at stride 1 and draws without "
        "end; windows are drawn level by level until it is reached; default: 0.02, unless "
        "estimator, samples, stride or block is given, or feature maps (layer:NAME) are explained",
    )
    stride: Positive | None = Field(
        None,
        description="distance between neighbouring windows, in voxels, for the paper's algorithm; "
        "default: 1",
    )
    estimator: Estimator | None = Field(
        None,
        description="exact: exact expectations, for linear classifiers; samples: means over S "
        "draws, as in the paper; default: exact if available, otherwise means over draws",
    )
    samples: Annotated[int, Field(ge=2, lt=2**31)] | None = Field(
        None,
        description="number S of draws per window, for the paper's algorithm; default: 10",
    )
    block: Positive | None = Field(
        None,
        description="number of windows per block, the unit of work that is stored and resumed; "
        "default: 131072 for linear classifiers, or fewer if surroundings are large, and 1024 for "
        "networks; with an accuracy, a block is a level",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="device that networks run on; auto uses a GPU if there is one"
    )
    engine: Literal["incremental", "dense"] = Field(
        "incremental",
        description="how networks are evaluated; incremental recomputes only what a window "
        "changes, if that saves work; dense always makes full forward passes",
    )
    precision: Literal["float32", "tf32", "bfloat16"] = Field(
        "float32",
        description="arithmetic of networks; tf32 needs a GPU; bfloat16 shifts maps: with an "
        "accuracy, some draws are made in float32 too, from which the shift is corrected, and what "
        "remains of it is part of the error",
    )

    beyond_slab: bool | None = Field(
        None,
        description="whether windows may overlap the borders of the slab that a classifier of "
        "volumes sees, where the volume continues: then all voxels of the slab are in equally many "
        "windows, and its first and last slices do not stand out; false: windows lie inside the "
        "slab, as in the paper; default: true, unless the sampler has `surroundings: input`. This "
        "makes no difference where a classifier sees whole items",
    )

    @model_validator(mode="after")
    def _check_accuracy(self) -> "WindowSettings":
        if self.accuracy is None:
            return self
        for key in ("estimator", "samples", "stride", "block"):
            if getattr(self, key) is not None:
                raise ValueError(
                    f"accuracy and {key} are both given: an accuracy decides itself which windows "
                    f"are drawn how often; remove accuracy, or {key}"
                )
        return self

    def accuracy_for(self, classifier: Any) -> float | None:
        """Return the accuracy that is set, or the default; None for the paper's algorithm.

        Parameters
        ----------
        classifier : Classifier or ClassifierSettings

        Raises
        ------
        InputError
            If an accuracy is set for a linear classifier.
        """
        if classifier.has_exact_form:
            if self.accuracy is not None:
                raise InputError(
                    "accuracy is for networks: remove it; linear classifiers are explained "
                    "exactly, without draws"
                )
            return None
        # Interpolating all feature maps of a layer takes longer than drawing more.
        shows_layers = any(text.startswith(LAYER) for text in self.targets or ())
        paper = self.estimator or self.samples or self.stride or self.block
        if paper or shows_layers:
            return self.accuracy
        return self.accuracy or DEFAULT_ACCURACY

    @property
    def in_two_precisions(self) -> bool:
        """Whether, with an accuracy, some draws are made in float32 too."""
        return self.precision == "bfloat16"

    @property
    def samples_or_default(self) -> int:
        """Number S of draws per window of the paper's algorithm."""
        return self.samples or _SAMPLES

    @property
    def stride_or_default(self) -> int:
        """Distance between neighbouring windows."""
        return self.stride or 1

    def estimator_for(
        self, classifier: Classifier, sampler: SamplerSettings, targets: Sequence[Target]
    ) -> Estimator:
        """Return the estimator that is set, or the default for a classifier and a sampler.

        Raises
        ------
        InputError
            If exact expectations are requested but not available.
        """
        has_form = classifier.has_exact_form and sampler.has_exact_form(len(classifier.space))
        drawn = [str(one) for one in targets if not classifier.has_exact_expectation(one)]
        if self.estimator == "exact" and (drawn or not has_form):
            raise InputError(no_exact_form(classifier.has_exact_form, drawn if has_form else ()))
        return self.estimator or ("samples" if drawn or not has_form else "exact")

    def goes_beyond_slab(self, sampler: SamplerSettings) -> bool:
        """Return whether windows may overlap the borders of a slab: as set, or the default.

        Raises
        ------
        InputError
            If they shall, but the sampler is given the slab only.
        """
        if self.beyond_slab and not sampler.sees_items:
            raise InputError(
                "beyond_slab: windows cannot overlap the borders of the slab, because the sampler "
                "is given the slab only: remove beyond_slab, or the sampler's surroundings: input"
            )
        return sampler.sees_items if self.beyond_slab is None else self.beyond_slab

    def block_for(self, classifier: Classifier) -> int:
        """Return the number of windows per block that is set, or the default for a classifier."""
        if self.block or not classifier.has_exact_form:
            return self.block or _BLOCK
        patch = classifier.channels * (self.l or self.k) ** len(classifier.space)
        return max(1, min(_BLOCK_EXACT_FORM, _NUMBERS_OF_BLOCK // patch))


def no_exact_form(linear: bool, targets: Sequence[str] = ()) -> str:
    """Return the message for exact expectations that are not available.

    Parameters
    ----------
    linear : bool
        Whether the classifier is linear.
    targets : sequence of str
        Targets that have none, if the classifier and the sampler have.
    """
    if not linear:
        return "there are no exact expectations for networks: set the estimator to samples"
    if targets:
        return (
            f"there are no exact expectations for {', '.join(targets)}, since there are more than "
            "two classes: set the estimator to samples, or explain logits"
        )
    return (
        "there are no exact expectations for this sampler (clipped draws, for example): set the "
        "estimator to samples"
    )


@METHODS.register
class PredictionDifference(MethodSettings, WindowSettings):
    """Prediction difference analysis: a classifier, a sampler and windows."""

    redraws_windows: ClassVar[bool] = True

    method: Literal["prediction-difference"] = Field(
        "prediction-difference", description="prediction-difference"
    )
    sampler: Name = Field(description="name of the sampler")
    k: Positive = Field(
        3,
        description="side of a window, in voxels; or a list of sides, which makes one explanation "
        "of each, called <name>-k<side>",
        json_schema_extra=or_list,
    )
    l: Positive | None = Field(
        7,
        description="side of the surroundings, in voxels; used by conditional samplers; with a "
        "list of k, also a list of the same length",
        json_schema_extra=or_list,
    )
    items_per_job: Positive | None = Field(
        None,
        description="number of items per job, which does not change results; default: 200 for "
        "linear classifiers; for networks, about one hour of a GPU at 50,000 forward passes of "
        "images, or 1,000 of volumes, per second",
    )
    batch_size: Positive | None = Field(
        None,
        description="number of inputs per forward pass of a network; default: depends on the "
        "device",
    )

    @property
    def sampler_name(self) -> str:
        """The sampler."""
        return self.sampler

    @property
    def window_side(self) -> int:
        """Side `k` of the windows."""
        return self.k

    def passes_of(self, space: tuple[int, ...], classifier: Any) -> int:
        """Forward passes that an input of some shape takes; with an accuracy, about as many.

        Parameters
        ----------
        space : tuple of int
        classifier : Classifier or ClassifierSettings
        """
        windows = prod(ceil((n - self.k) / self.stride_or_default + 1) for n in space)
        accuracy = self.accuracy_for(classifier)
        if accuracy is None:
            return windows * self.samples_or_default
        # Measured on photographs: a quarter of a draw per window at 0.02.
        return ceil(windows * 0.25 * (DEFAULT_ACCURACY / accuracy) ** 2)


if TYPE_CHECKING:
    AnySampler: TypeAlias = SamplerSettings
else:
    AnySampler = SAMPLERS.union()


class ExpectationSettings(Settings):
    """Sampler, windows, estimator and targets of an explanation (`preddiff open`)."""

    registries: ClassVar[dict[str, Registry[Any]]] = {"sampler": SAMPLERS}
    kinds_at: ClassVar[dict[str, int]] = {"sampler": 1}

    sampler: AnySampler = Field(description="sampler that redraws windows")
    windows: WindowSettings = Field(
        default_factory=WindowSettings, description="windows, estimator and targets"
    )


def code_of_expectations(
    settings: WindowSettings, classifier: Any, sampler: SamplerSettings
) -> tuple[str, ...]:
    """Definitions that expectations depend on: roots of `digest_code`.

    Parameters
    ----------
    settings : WindowSettings
    classifier : Classifier or ClassifierSettings
    sampler : SamplerSettings
    """
    engine = "linear_engine" if classifier.has_exact_form else "network_engine"
    compute: tuple[str, ...] = ("preddiff.stages.explain:compute_blocks",)
    if settings.accuracy_for(classifier) is not None:
        engine = "engines_of_levels"
        # What decides which windows are drawn, and when to stop.
        compute = (
            "preddiff.stages.explain:compute_levels",
            "preddiff.refinement:Refinement",
            "preddiff.evidence:Evidence",
            "preddiff.windows:Windows",
        )
    return (
        f"{__name__}:{engine}",
        f"{__name__}:WindowSettings",
        f"{type(sampler).__module__}:{type(sampler).__name__}",
        "preddiff.methods.selection:sources_of",
        "preddiff.datasets.items:Items",
        # Which windows of which part of an item the engine is asked for.
        *compute,
        *classifier.code,
    )


def provenance(
    settings: WindowSettings,
    classifier: Classifier,
    sampler: SamplerSettings,
    targets: Sequence[Target],
    windows: Windows,
    seed: int,
) -> dict[str, Any]:
    """Return what expectations depend on, besides items, sampler, classifier and code.

    An accuracy is not part of it: what is drawn at each level does not depend on it.
    """
    estimator = settings.estimator_for(classifier, sampler, targets)
    # Nothing more where windows lie inside the classifier's input.
    place = {} if windows.seen is None else {"beyond_slab": True}
    if settings.accuracy_for(classifier) is not None:
        return {
            **settings.about_models,
            **place,
            "k": settings.k,
            "estimator": LEVELS,
            "seed": seed,
            "engine": settings.engine,
            "precision": settings.precision,
        }
    found: dict[str, Any] = {
        **settings.about_models,
        **place,
        "k": settings.k,
        "stride": settings.stride_or_default,
        "block": settings.block_for(classifier),
        "estimator": estimator,
    }
    if estimator == "samples":
        found |= {"samples": settings.samples_or_default, "seed": seed}
        if not classifier.has_exact_form:
            found |= {"engine": settings.engine, "precision": settings.precision}
    return found


@dataclass(frozen=True)
class Request:
    """What an engine computes.

    Attributes
    ----------
    sampler : Sampler
    part : tuple of slice
        Part of the items that the engine is given: the classifier's input, and what the sampler
        sees around it.
    windows : Windows
        In this part.
    targets : tuple of Target
    classes : mapping of str to sequence of int
        By item: the number of each target's class.
    seed : int
    """

    sampler: Sampler
    part: tuple[slice, ...]
    windows: Windows
    targets: tuple[Target, ...]
    classes: Mapping[str, Sequence[int]]
    seed: int


def linear_engine(
    settings: WindowSettings, estimator: Estimator, classifier: Any, request: Request
) -> Engine:
    """Return the engine for a linear classifier."""
    sampler, windows, targets = request.sampler, request.windows, request.targets

    def engine(one: LinearClassifier) -> Engine:
        if estimator == "exact":
            return linear.Exact(one, sampler, windows, targets)
        samples = settings.samples_or_default
        return linear.Samples(one, sampler, windows, targets, samples, request.seed)

    return engine(classifier) if classifier.models is None else ByModel(classifier, engine)


def network_engine(
    settings: WindowSettings, classifier: Any, request: Request, batch_size: int | None
) -> DrawingEngine:
    """Return the engine for a network, on the device that is set."""
    device = device_of(settings.device)
    readout = Readout(request.targets)
    kind = Dense if settings.engine == "dense" else Incremental

    def engine(one: Network) -> Dense:
        return kind(
            NetworkNodes(one, readout, request.classes, device, settings.precision),
            request.sampler,
            request.windows,
            settings.samples_or_default,
            request.seed,
            batch_size,
            standardisation=one.standardisation,
            device=device,
        )

    return engine(classifier) if classifier.models is None else DrawsByModel(classifier, engine)


def engines_of_levels(
    settings: WindowSettings, classifier: Any, request: Request, batch_size: int | None
) -> tuple[DrawingEngine, DrawingEngine | None]:
    """Return the engine for a network with an accuracy, and the same in float32 if it is not."""
    engine = network_engine(settings, classifier, request, batch_size)
    if not settings.in_two_precisions:
        return engine, None
    exact = settings.model_copy(update={"precision": "float32"})
    return engine, network_engine(exact, classifier, request, batch_size)
