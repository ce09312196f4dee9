"""Arithmetic of networks: what torch's switches are while a network runs, and afterwards."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from preddiff.classifiers.network import Network
from preddiff.classifiers.precision import arithmetic
from preddiff.classifiers.standardisation import Standardisation
from preddiff.errors import InputError

SWITCHES = ("enabled", "deterministic", "benchmark", "benchmark_limit", "allow_tf32")


def switches() -> dict[str, object]:
    found = {name: getattr(torch.backends.cudnn, name) for name in SWITCHES}
    return {**found, "matmul": torch.backends.cuda.matmul.allow_tf32}


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("precision", ["float32", "tf32"])
def test_only_what_decides_about_precision_and_speed_is_switched(
    precision: str, deterministic: bool, monkeypatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", deterministic)
    before = switches()
    assert before["enabled"]
    allowed = precision == "tf32"
    with arithmetic(torch.device("cuda"), precision):
        inside = switches()
    expected = {"benchmark": True, "allow_tf32": allowed, "matmul": allowed}
    assert inside == {**before, **expected}
    assert switches() == before


@pytest.fixture
def tf32_allowed() -> Iterator[None]:
    """Allow TF32 wherever torch has a switch for it."""
    backends = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [backend.allow_tf32 for backend in backends]
    for backend in backends:
        backend.allow_tf32 = True
    yield
    for backend, allowed in zip(backends, before, strict=True):
        backend.allow_tf32 = allowed


@pytest.mark.usefixtures("tf32_allowed")
def test_switches_are_put_back_after_an_error() -> None:
    before = switches()
    with pytest.raises(KeyError), arithmetic(torch.device("cuda"), "float32"):
        raise KeyError
    assert switches() == before


def test_tf32_is_refused_on_a_cpu() -> None:
    with (
        pytest.raises(InputError, match="tf32 needs a GPU"),
        arithmetic(torch.device("cpu"), "tf32"),
    ):
        pass


class Recorder(nn.Module):
    """Notes how it is run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, object]]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.found.append((x.device.type, switches()))
        return x.flatten(1)[:, :2]


@pytest.mark.usefixtures("tf32_allowed")
def test_defaults_of_torch_do_not_decide_about_the_precision_of_logits() -> None:
    module = Recorder()
    network = Network(module, {}, ("a", "b"), 10, (2, 2), Standardisation((0.5,), (0.5,)))
    # Fake tensors know of their device, but compute nothing: no GPU is needed.
    with FakeTensorMode():
        assert network.logits(torch.empty((3, 1, 2, 2), device="cuda")).device.type == "cuda"
    ((device, inside),) = module.found
    assert device == "cuda" and inside["enabled"]
    assert not inside["allow_tf32"] and not inside["matmul"]
