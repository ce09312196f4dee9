"""Settings of the conditional sampler, which is made from a stored patch Gaussian."""

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from preddiff.errors import InputError
from preddiff.samplers.base import SAMPLERS, SamplerSettings, Sources
from preddiff.samplers.conditional import Conditional
from preddiff.samplers.gaussian import LocatedPatchGaussian
from preddiff.samplers.gaussian_store import GaussianSettings, digest_of, load_gaussian, range_of
from preddiff.windows import Surroundings, Windows


@SAMPLERS.register
class ConditionalSettings(SamplerSettings, GaussianSettings):
    """Draws from a patch Gaussian, conditioned on the surroundings; global or by location."""

    needs_surroundings: ClassVar[bool] = True

    kind: Literal["conditional"] = Field(description="conditional")
    clip: bool | None = Field(
        None,
        description="clip draws to the range of the training items, which needs estimator samples; "
        "default: true for images, false for volumes",
    )

    surroundings: Literal["item", "input"] = Field(
        "item",
        description="what the surroundings of a window may contain. item: all of the item, so that "
        "draws are conditioned on what lies beside the slab that a classifier sees; input: only "
        "the classifier's input, as in version 0.1, so that windows lie inside it, too. This makes "
        "no difference where a classifier sees whole items",
    )

    @property
    def gaussian(self) -> GaussianSettings:
        """Settings of the patch Gaussian."""
        return self.part(GaussianSettings)

    @property
    def depends_on_location(self) -> bool:
        """Whether there is one Gaussian for each cell of a grid over the items."""
        return self.grid is not None

    def clips(self, dimensions: int) -> bool:
        """Whether draws are clipped, for items of 2 or 3 dimensions."""
        return dimensions == 2 if self.clip is None else self.clip

    def has_exact_form(self, dimensions: int) -> bool:
        """Whether draws are normal, which they are unless they are clipped."""
        return not self.clips(dimensions)

    @property
    def sees_items(self) -> bool:
        """Whether surroundings may contain what lies beside the classifier's input."""
        return self.surroundings == "item"

    def context(self, windows: Windows, l: int | None) -> tuple[slice, ...]:
        """The surroundings of all windows."""
        if l is None:
            raise InputError("l is missing: the sampler needs surroundings")
        if self.surroundings == "input":
            # Checks that they fit.
            Surroundings(windows.alone, l)
            return windows.region
        return Surroundings(windows, l).region

    def provenance(self, sources: Sources) -> dict[str, Any]:
        """Digest of the Gaussian and range of draws; checks that the Gaussian fits the items."""
        path = _store(sources)
        fitted = load_gaussian(path)
        if fitted.l != sources.l:
            raise InputError(f"{path} was fitted for l = {fitted.l}, not for l = {sources.l}")
        if fitted.channels != sources.items.channels:
            raise InputError(
                f"{path} was fitted on items of {fitted.channels} channels, but these have "
                f"{sources.items.channels}"
            )
        span = self._range(sources)
        found = {
            "sampler": self.kind,
            "l": sources.l,
            "clip": False if span is None else list(span),
            "gaussian": digest_of(path),
        }
        # Where the classifier sees all of it, draws are the same for either setting.
        return found if sources.context == sources.slab else {**found, "surroundings": "item"}

    def build(self, sources: Sources) -> Conditional:
        """Make the sampler from the stored Gaussian."""
        fitted = load_gaussian(_store(sources))
        if isinstance(fitted, LocatedPatchGaussian):
            fitted = fitted.at(tuple(part.start for part in sources.context))
        return Conditional(fitted, self._range(sources))

    def _range(self, sources: Sources) -> tuple[float, float] | None:
        return range_of(_store(sources)) if self.clips(len(sources.items.space)) else None


def _store(sources: Sources) -> Path:
    if sources.gaussian is None:
        raise InputError("a conditional sampler needs a Gaussian store (--gaussian)")
    return sources.gaussian
