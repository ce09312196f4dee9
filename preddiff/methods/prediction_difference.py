"""Prediction difference analysis: windows are redrawn one by one, and targets evaluated again.

L. M. Zintgraf, T. S. Cohen, T. Adel, M. Welling, "Visualizing deep neural network decisions:
Prediction difference analysis", ICLR 2017, arXiv 1702.04595. Section 3 of
the paper is implemented in `preddiff.windows`, `preddiff.evidence` and
`preddiff.samplers.conditional`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import Field

from preddiff.classifiers.base import Classifier
from preddiff.classifiers.network import NetworkNodes
from preddiff.classifiers.readout import Readout
from preddiff.devices import device_of
from preddiff.engines import linear
from preddiff.engines.base import Engine
from preddiff.engines.dense import Dense
from preddiff.engines.incremental.engine import Incremental
from preddiff.errors import InputError
from preddiff.methods.base import METHODS, MethodSettings, TargetSettings
from preddiff.registry import Registry
from preddiff.samplers.base import SAMPLERS, SamplerSettings
from preddiff.samplers.draws import Sampler
from preddiff.settings.base import Name, Positive, Settings
from preddiff.targets import Target
from preddiff.windows import Windows

Estimator = Literal["exact", "samples"]

# Default windows per block: seconds of work for linear classifiers, minutes for networks.
_BLOCK_EXACT_FORM, _BLOCK = 131_072, 1024


class WindowSettings(TargetSettings):
    """Windows, estimator and targets of an explanation (`preddiff open`)."""

    k: Positive = Field(3, description="side of a window, in voxels")
    l: Positive | None = Field(
        7, description="side of the surroundings, in voxels; used by conditional samplers"
    )
    stride: Positive = Field(1, description="distance between neighbouring windows, in voxels")
    estimator: Estimator | None = Field(
        None,
        description="exact: exact expectations, for linear classifiers; samples: means over S "
        "draws, as in the paper; default: exact if available, otherwise samples",
    )
    samples: Annotated[int, Field(ge=2, lt=2**31)] = Field(
        10, description="number S of draws per window"
    )
    block: Positive | None = Field(
        None,
        description="number of windows per block, the unit of work that is stored and resumed; "
        "default: 131072 for linear classifiers, 1024 for networks",
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
        "float32", description="arithmetic of networks; tf32 needs a GPU"
    )

    def estimator_for(self, classifier: Classifier, sampler: SamplerSettings) -> Estimator:
        """Return the estimator that is set, or the default for a classifier and a sampler.

        Raises
        ------
        InputError
            If exact expectations are requested but not available.
        """
        exact = classifier.has_exact_form and sampler.has_exact_form(len(classifier.space))
        if self.estimator == "exact" and not exact:
            raise InputError(no_exact_form(classifier.has_exact_form))
        return self.estimator or ("exact" if exact else "samples")

    def block_for(self, classifier: Classifier) -> int:
        """Return the number of windows per block that is set, or the default for a classifier."""
        return self.block or (_BLOCK_EXACT_FORM if classifier.has_exact_form else _BLOCK)


def no_exact_form(linear: bool) -> str:
    """Return the message for exact expectations that are not available."""
    if not linear:
        return "there are no exact expectations for networks: set the estimator to samples"
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
    items_per_job: Positive | None = Field(
        None,
        description="number of items per job, which does not change results; default: 200 for "
        "linear classifiers; for networks, about one hour of a GPU at 50,000 forward passes per "
        "second",
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


def code_of_expectations(classifier: Any, sampler: SamplerSettings) -> tuple[str, ...]:
    """Definitions that expectations depend on: roots of `digest_code`.

    Parameters
    ----------
    classifier : Classifier or ClassifierSettings
    sampler : SamplerSettings
    """
    engine = "linear_engine" if classifier.has_exact_form else "network_engine"
    return (
        f"{__name__}:{engine}",
        f"{__name__}:WindowSettings",
        f"{type(sampler).__module__}:{type(sampler).__name__}",
        "preddiff.methods.selection:sources_of",
        "preddiff.datasets.items:Items",
        # Which windows of which part of an item the engine is asked for.
        "preddiff.stages.explain:compute_blocks",
        *classifier.code,
    )


def provenance(
    settings: WindowSettings, classifier: Classifier, sampler: SamplerSettings, seed: int
) -> dict[str, Any]:
    """Return what expectations depend on, besides items, sampler, classifier and code."""
    estimator = settings.estimator_for(classifier, sampler)
    found: dict[str, Any] = {
        "k": settings.k,
        "stride": settings.stride,
        "block": settings.block_for(classifier),
        "estimator": estimator,
    }
    if estimator == "samples":
        found |= {"samples": settings.samples, "seed": seed}
        if not classifier.has_exact_form:
            found |= {"engine": settings.engine, "precision": settings.precision}
    return found


@dataclass(frozen=True)
class Request:
    """What an engine computes.

    Attributes
    ----------
    sampler : Sampler
    windows : Windows
    targets : tuple of Target
    classes : mapping of str to sequence of int
        By item: the number of each target's class.
    seed : int
    """

    sampler: Sampler
    windows: Windows
    targets: tuple[Target, ...]
    classes: Mapping[str, Sequence[int]]
    seed: int


def linear_engine(
    settings: WindowSettings, estimator: Estimator, classifier: Any, request: Request
) -> Engine:
    """Return the engine for a linear classifier."""
    sampler, windows, targets = request.sampler, request.windows, request.targets
    if estimator == "exact":
        return linear.Exact(classifier, sampler, windows, targets)
    return linear.Samples(classifier, sampler, windows, targets, settings.samples, request.seed)


def network_engine(
    settings: WindowSettings, classifier: Any, request: Request, batch_size: int | None
) -> Engine:
    """Return the engine for a network, on the device that is set."""
    device = device_of(settings.device)
    readout = Readout(request.targets)
    kind = Dense if settings.engine == "dense" else Incremental
    return kind(
        NetworkNodes(classifier, readout, request.classes, device, settings.precision),
        request.sampler,
        request.windows,
        settings.samples,
        request.seed,
        batch_size,
        standardisation=classifier.standardisation,
        device=device,
    )
