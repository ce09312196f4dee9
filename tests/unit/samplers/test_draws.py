"""Draws of samplers: the same on every device, and the same as ever."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from preddiff.engines.dense import Dense
from preddiff.samplers.conditional import Conditional
from preddiff.samplers.draws import Sampler, generator
from preddiff.samplers.gaussian import PatchGaussian
from preddiff.samplers.grey import Grey
from preddiff.samplers.marginal import Marginal
from preddiff.windows import Box, Windows

SPACE = (7, 6)
WINDOWS = Windows(SPACE, 2)
BLOCK = Box(3, (slice(1, 3), slice(0, 5)))


def gaussian() -> PatchGaussian:
    """Neighbouring pixels are correlated."""
    places = np.indices((4, 4)).reshape(2, -1).T
    distances = np.abs(places[:, None] - places).sum(-1)
    return PatchGaussian(np.arange(16.0), 0.5**distances, 4, 1, 100, 0.0)


def items() -> np.ndarray:
    """Item n holds n, and its pixels' numbers as hundredths."""
    pixels = np.arange(42, dtype=np.float32).reshape(SPACE) / 100
    return np.stack([number + pixels[None] for number in range(20)])


def samplers() -> dict[str, Sampler]:
    names = [f"item {n}" for n in range(20)]
    return {
        "conditional": Conditional(gaussian()),
        "clipped": Conditional(gaussian(), (4.5, 5.0)),
        "marginal": Marginal(items(), names),
        "stored": Marginal(np.arange(840, dtype=np.uint8).reshape(20, 1, *SPACE), names, 1 / 255),
        "grey": Grey(0.5),
        "black": Grey(0),
    }


# First and last draws of the first and the eighth window, as versions up to 0.1.0 drew on CPUs.
FROZEN = {
    "conditional": [[4.86803, 3.56607, 4.43257, 4.11069], [4.57878, 4.33327, 5.66614, 4.68889],
                    [4.7924, 5.26222, 5.25639, 5.70352], [2.97045, 2.84283, 4.21688, 4.49424]],
    "clipped": [[4.86803, 4.5, 4.5, 4.5], [4.57878, 4.5, 5.0, 4.68889],
                [4.7924, 5.0, 5.0, 5.0], [4.5, 4.5, 4.5, 4.5]],
    "marginal": [[19.06, 19.07, 19.12, 19.13], [13.06, 13.07, 13.12, 13.13],
                 [16.14, 16.15, 16.2, 16.21], [0.14, 0.15, 0.2, 0.21]],
    "stored": [[0.14118, 0.1451, 0.16471, 0.16863], [0.15686, 0.16078, 0.18039, 0.18431],
               [0.68235, 0.68627, 0.70588, 0.7098], [0.0549, 0.05882, 0.07843, 0.08235]],
    "grey": [[0.5] * 4] * 4,
    "black": [[0.0] * 4] * 4,
}  # fmt: skip


@pytest.mark.parametrize("name", list(FROZEN))
def test_draws_are_those_of_earlier_versions(name: str) -> None:
    x = torch.from_numpy(items()[4])
    draws = samplers()[name].draw(x, "item 4", WINDOWS, BLOCK, 3, generator(5, "item 4", BLOCK))
    assert draws.dtype == torch.float32
    found = draws[[0, 0, 7, 7], [0, -1, 0, -1]].numpy()
    assert found == pytest.approx(np.array(FROZEN[name]), abs=1e-5)


class RandomOperations(TorchDispatchMode):
    """Notes the devices on which torch makes random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.devices: list[str] = []

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None):
        found = operation(*args, **(kwargs or {}))
        if torch.Tag.nondeterministic_seeded in operation.tags:
            self.devices.append(found.device.type)
        return found


@pytest.mark.parametrize("name", list(FROZEN))
def test_draws_for_any_device_are_made_on_the_host(name: str) -> None:
    sampler = samplers()[name]
    # Fake tensors know of their device, but compute nothing: no GPU is needed.
    with FakeTensorMode(allow_non_fake_inputs=True), RandomOperations() as random:
        x = torch.empty((1, *SPACE), device="cuda")
        source = generator(5, "item 4", BLOCK)
        draws = sampler.draw(x, "item 4", WINDOWS, BLOCK, 3, source)
    assert source.device.type == "cpu"
    assert draws.device.type == "cuda" and draws.dtype == torch.float32
    assert random.devices == (["cpu"] if sampler.random else [])


class Drawn(Exception):  # noqa: N818
    """Ends an engine once it has drawn."""


class Asked:
    """Notes what it is asked to draw with."""

    random = True

    def draw(
        self,
        x: Tensor,
        item: str,
        windows: Windows,
        block: Box,
        samples: int,
        generator: torch.Generator,
    ) -> Tensor:
        raise Drawn(generator.device.type, x.device.type)


def test_engines_draw_on_the_host_whatever_their_device() -> None:
    engine = Dense(lambda x, item: x.flatten(1), Asked(), WINDOWS, 3, 5, device="cuda")
    with FakeTensorMode(allow_non_fake_inputs=True), pytest.raises(Drawn) as drawn:
        engine.expectations(items()[:1], ["item 0"], BLOCK)
    assert drawn.value.args == ("cpu", "cpu")
