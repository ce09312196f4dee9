"""Samplers from Python files of the user, such as an inpainting network."""

from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from preddiff import user_code
from preddiff.errors import InputError
from preddiff.samplers.base import SAMPLERS, SamplerSettings, Sources
from preddiff.samplers.draws import Sampler
from preddiff.windows import Block, Windows


@SAMPLERS.register
class ModuleSettings(SamplerSettings):
    """Draws windows by your own function, from a Python file.

    The object is called once, with the training items of the sampler's dataset as
    `preddiff.TrainingItems`, and returns a function `draw(x, mask, samples, generator)`. Its
    arguments are an item `x`, as a float32 tensor (channels, *space); the window, as a bool tensor
    (*space); the number of draws; and a `torch.Generator` on the CPU. It returns copies of the item
    with the window redrawn, as a tensor (samples, channels, *space).
    """

    kind: Literal["module"] = Field(description="module")
    module: user_code.Reference = Field(
        description="path/to/file.py:name, a function or class that takes the training items and "
        "returns a function draw(x, mask, samples, generator)"
    )

    def input_files(self) -> list[Path]:
        """List the Python file and the modules that it imports from its folder."""
        return user_code.files_of(self.module)

    def has_exact_form(self, dimensions: int) -> bool:
        """False, because the distribution of the draws is unknown."""
        return False

    def provenance(self, sources: Sources) -> dict[str, Any]:
        """Name of the object, digest of its file and imports, and digest of the training items."""
        return {
            "sampler": self.kind,
            "object": user_code.name_of(self.module),
            "files": user_code.digest_of(self.module),
            "training items": sources.training_digest,
        }

    def build(self, sources: Sources) -> Sampler:
        """Run the file and call the object."""
        factory = user_code.load(self.module)
        with user_code.errors_of(self.module):
            draw = factory(TrainingItems(sources))
        if not callable(draw):
            raise InputError(
                f"{self.module} returned a {type(draw).__name__}: it must return a function "
                "draw(x, mask, samples, generator)"
            )
        return UserSampler(self.module, draw)


class TrainingItems:
    """The training items of a dataset, as the sampler is given items.

    They are cut to the part that has windows: of classifiers that see a slab of the items, the slab
    and, unless windows have to lie inside it, k - 1 slices more on each side.

    Parameters
    ----------
    sources : Sources

    Attributes
    ----------
    names : list of str
    """

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._numbers = [int(number) for number in sources.training]
        self.names = [sources.items.names[number] for number in self._numbers]

    def __len__(self) -> int:
        """Number of training items."""
        return len(self._numbers)

    def __getitem__(self, number: int) -> Tensor:
        """Read a training item, as a float32 tensor (channels, *space)."""
        found = self._sources.items.read([self._numbers[number]], self._sources.context)
        return torch.from_numpy(found[0])


class UserSampler:
    """Redraws windows by a user's function, one by one.

    Parameters
    ----------
    reference : str
        `path/to/file.py:name` that made the function, for error messages.
    draw : callable
    """

    random = True

    def __init__(self, reference: str, draw: Any) -> None:
        self.reference = reference
        self.function = draw

    def draw(
        self,
        x: Tensor,
        item: str,
        windows: Windows,
        block: Block,
        samples: int,
        generator: torch.Generator,
    ) -> Tensor:
        """Draw each window by the user's function; see `Sampler.draw`.

        Raises
        ------
        InputError
            If the function fails, or returns another shape or values that are not finite.
        """
        rows = []
        for start in windows.first_voxels(block):
            window = tuple(slice(int(s), int(s) + windows.k) for s in start)
            mask = torch.zeros(x.shape[1:], dtype=torch.bool, device=x.device)
            mask[window] = True
            with user_code.errors_of(self.reference):
                # Copies, since the function may change them in place.
                found = torch.as_tensor(self.function(x.clone(), mask, samples, generator))
            self._check(found, (samples, *x.shape), item)
            rows.append(found[(slice(None), slice(None), *window)].reshape(samples, -1))
        return torch.stack(rows).to(x)

    def _check(self, found: Tensor, shape: tuple[int, ...], item: str) -> None:
        if tuple(found.shape) != shape:
            raise InputError(
                f"{self.reference} returned draws of shape {tuple(found.shape)}: it must return "
                f"(samples, channels, *space), {shape}"
            )
        if not found.isfinite().all():
            raise InputError(f"item '{item}': {self.reference} returned values that are not finite")
