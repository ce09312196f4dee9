"""Networks as classifiers: layers, checks, checkpoints, and what is stored of them."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from preddiff import user_code
from preddiff.classifiers import checkpoint, digits, module, torchvision
from preddiff.classifiers.layers import WithMeans, count_maps, list_layers
from preddiff.classifiers.network import Network, check, prepared
from preddiff.classifiers.network_nodes import NetworkNodes
from preddiff.classifiers.precision import arithmetic
from preddiff.classifiers.readout import Readout
from preddiff.classifiers.standardisation import Standardisation
from preddiff.errors import InputError
from preddiff.targets import Target

GREY = Standardisation((0.5,), (0.25,))


class Branches(nn.Module):
    """Branches, additions and activations in place: what makes activations hard to read."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.block = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4))
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.conv1(x))
        y = self.block(x)
        y += x
        y.clamp_(-0.4, 0.4)
        y = functional.relu(y, inplace=True)
        z = torch.cat([y, functional.max_pool2d(x, 3, 1, 1)], 1)
        return self.head(z.mean((2, 3)))


def branches() -> Branches:
    torch.manual_seed(0)
    network = Branches()
    nn.init.normal_(network.block[1].running_mean)
    return prepared(network)


def stored(network: nn.Module, classes: int = 3, space: tuple[int, int] = (8, 8)) -> Network:
    names = tuple(f"class {n}" for n in range(classes))
    return Network(prepared(network), {"digits": 4}, names, 100, space, GREY)


def test_means_are_those_of_the_layers_before_anything_changes_them() -> None:
    network, x = branches(), torch.rand((2, 1, 8, 8))
    with torch.no_grad():
        conv1 = network.conv1(x)
        relu = conv1.clamp(min=0)
        normed = network.block(relu)
        expected = {
            "conv1": conv1,
            "relu": relu,
            "block.0": network.block[0](relu),
            "block": normed,
            "add": normed + relu,
        }
        logits, means = WithMeans(network, list(expected))(x)
        assert torch.allclose(logits, network(x), atol=1e-6)
    for layer, activations in expected.items():
        assert torch.allclose(means[layer], activations.double().mean((2, 3)), atol=1e-6), layer


@pytest.mark.parametrize("name", ["googlenet", "squeezenet1_1", "mobilenet_v2", "resnet18"])
def test_layers_of_torchvisions_networks(name: str) -> None:
    torch.manual_seed(1)
    network = prepared(torchvision.build(name, 10))
    x = torch.rand((2, 3, 64, 64))
    layers = list_layers(network, x[:1])
    chosen = [layer for layer in layers if layer.space][:: max(1, len(layers) // 6)]
    logits, means = WithMeans(network, [layer.name for layer in chosen])(x)
    with torch.no_grad():
        assert torch.allclose(logits, network(x), atol=1e-5)
    for layer in chosen:
        assert means[layer.name].shape == (2, layer.maps)
        assert count_maps(network, layer.name, x[:1]) == layer.maps


def test_layers_by_their_names_in_torch_fx() -> None:
    _, means = WithMeans(branches(), ["block_1", "block.1"])(torch.rand((1, 1, 8, 8)))
    assert torch.equal(means["block_1"], means["block.1"])


def test_unknown_layers_are_refused() -> None:
    with pytest.raises(InputError, match="no layer 'conv9'; `preddiff layers` lists them"):
        WithMeans(branches(), ["conv9"])


class Untraceable(Branches):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) if x.sum() > 0 else super().forward(-x)


def test_a_network_that_cannot_be_traced_still_has_logits() -> None:
    network, x = prepared(Untraceable()), torch.rand((2, 1, 8, 8))
    logits, means = WithMeans(network, [])(x)
    assert logits.shape == (2, 3) and not means
    with pytest.raises(InputError, match="cannot trace"):
        WithMeans(network, ["conv1"])


class Faulty(nn.Module):
    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault = fault
        self.linear = nn.Linear(64, 3)

    def forward(self, x: torch.Tensor) -> object:
        x = x.flatten(1)
        if self.fault == "dropout":
            x = functional.dropout(x, 0.5)
        if self.fault == "batch":
            x = functional.batch_norm(x, None, None, training=True)
        logits = self.linear(x)
        if self.fault == "tuple":
            return logits, x
        if self.fault == "nan":
            return logits / 0 * 0
        if self.fault == "shape":
            return logits[:, :, None]
        return logits


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("dropout", "differs from call to call"),
        ("batch", "depends on the batch's other inputs"),
        ("tuple", "returns a tuple"),
        ("nan", "NaN or infinite"),
        ("shape", r"output of shape \(4, 3, 1\)"),
    ],
)
def test_networks_that_cannot_be_explained_are_refused(fault: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check(stored(Faulty(fault)))


def test_classes_and_inputs_must_fit() -> None:
    check(stored(Faulty("")))
    with pytest.raises(InputError, match="returns 3 logits, but there are 4 names"):
        check(stored(Faulty(""), classes=4))
    with pytest.raises(InputError, match="does not accept inputs of 1 x 9 x 9"):
        check(stored(Faulty(""), space=(9, 9)))


class Ending(nn.Module):
    """Puts out one number, or probabilities, or fails in its own way."""

    def __init__(self, end: str) -> None:
        super().__init__()
        self.end = end
        self.linear = nn.Linear(64, 1 if end == "one" else 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert self.end != "assertion", "a square input, please"
        found = self.linear(x.flatten(1))
        return found.softmax(1) if self.end == "softmax" else found


@pytest.mark.parametrize(
    ("end", "classes", "message"),
    [
        ("one", 1, "a single number for 1 classes: that is the log-odds"),
        ("softmax", 3, "returns probabilities, not logits"),
        ("assertion", 3, "does not accept inputs of 1 x 8 x 8: a square input, please"),
    ],
)
def test_outputs_that_are_no_logits_are_refused(end: str, classes: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check(stored(Ending(end), classes=classes))


class Head(nn.Sequential):
    """A small network of volumes, whose last step is what is tested."""

    def __init__(self, *last: nn.Module, outputs: int = 1, norm: nn.Module | None = None) -> None:
        super().__init__(
            nn.Conv3d(1, 4, 3),
            norm or nn.Identity(),
            nn.ReLU(),
            nn.AdaptiveAvgPool3d(1),
            nn.Flatten(),
            nn.Linear(4, outputs),
            *last,
        )


class Affine(nn.Module):
    def __init__(self, factor: float, offset: float) -> None:
        super().__init__()
        self.factor, self.offset = factor, offset

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.factor * x + self.offset


def of_volumes(module: nn.Module, outputs: int, moments: tuple[float, float]) -> Network:
    names = ("a", "b", "c")[: max(outputs, 2)]
    mean, std = moments
    space = (8, 9, 7)
    return Network(prepared(module), {}, names, 9, space, Standardisation((mean,), (std,), 3))


MOMENTS = [(0.0, 1.0), (300.0, 100.0), (3000.0, 1000.0), (12000.0, 6000.0), (3000.0, 1.0)]


@pytest.mark.parametrize("moments", MOMENTS)
def test_the_scale_of_volumes_makes_no_difference_to_checks(moments: tuple[float, float]) -> None:
    for seed in range(20):
        torch.manual_seed(seed)
        check(of_volumes(Head(), 1, moments))
        check(of_volumes(Head(norm=nn.BatchNorm3d(4)), 1, moments))
        with pytest.raises(InputError, match="depends on the batch's other inputs"):
            norm = nn.BatchNorm3d(4, track_running_stats=False)
            check(of_volumes(Head(norm=norm), 1, moments))


class Last(nn.Module):
    """Hands its input to a function."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


@pytest.mark.parametrize("outputs", [1, 2, 3])
@pytest.mark.parametrize(
    "last",
    [
        nn.Sigmoid(),
        nn.Hardsigmoid(),
        # Bounded before, so that outputs stay away from 0 and 1.
        nn.Sequential(nn.ReLU6(), nn.Sigmoid()),
        Last(lambda x: x.sigmoid_()),
        Last(lambda x: torch.sigmoid(x.squeeze()).reshape(len(x), -1)),
        Last(lambda x: torch.stack([torch.sigmoid(one) for one in x.unbind(1)], 1)),
        Last(lambda x: torch.cat([one[:, None].sigmoid() for one in x.unbind(1)], 1).float()),
        Last(lambda x: torch.special.expit(x.double()).T.contiguous().T.float()),
    ],
)
def test_sigmoids_are_refused_as_logits(last: nn.Module, outputs: int) -> None:
    for moments in MOMENTS:
        torch.manual_seed(outputs)
        with pytest.raises(InputError, match=r"ends in a sigmoid.*torch.logit of its outputs"):
            check(of_volumes(Head(last, outputs=outputs), outputs, moments))


def test_a_sigmoid_can_be_explained_as_a_value() -> None:
    value = of_volumes(Head(nn.Sigmoid()), 1, (0.0, 1.0))
    check(dataclasses.replace(value, classes=("share",), has_probabilities=False))


@pytest.mark.parametrize("outputs", [1, 2, 3])
@pytest.mark.parametrize(
    ("last", "norm"),
    [
        # Close to 0.4, tiny, and between 0 and 1 for any input.
        (Affine(1e-3, 0.4), None),
        (Affine(1e-13, 0.0), None),
        (Affine(1e-13, 1e-12), None),
        (Affine(1e-2, 0.4), nn.InstanceNorm3d(4)),
        (nn.ReLU(), None),
        (nn.Sequential(nn.Sigmoid(), Last(torch.logit)), None),
        (nn.Sequential(nn.Sigmoid(), nn.LogSoftmax(1)), None),
        (Affine(0.0, 0.4), None),
        (Affine(0.0, 0.0), None),
    ],
)
def test_logits_that_happen_to_lie_between_0_and_1_are_accepted(
    last: nn.Module, norm: nn.Module | None, outputs: int
) -> None:
    for seed in range(10):
        torch.manual_seed(seed)
        check(of_volumes(Head(last, norm=norm, outputs=outputs), outputs, (0.0, 1.0)))


def test_weights_that_changed_since_they_were_stored_are_refused(tmp_path: Path) -> None:
    stored(digits.build(4), classes=10).save(tmp_path)
    checkpoint.write_state_dict(digits.build(4), tmp_path / "weights.safetensors")
    with pytest.raises(InputError, match="changed since the classifier was stored"):
        Network.load(tmp_path)


class Wrapper(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.module = branches()


def test_a_prefix_of_ones_own_and_missing_counts_are_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    state = Wrapper().state_dict()
    torch.save({n: v for n, v in state.items() if not n.endswith("num_batches_tracked")}, path)
    other = Wrapper()
    nn.init.zeros_(other.module.head.bias)
    checkpoint.load_state_dict(other, checkpoint.read_state_dict(path), str(path))
    assert torch.equal(other.module.head.bias, state["module.head.bias"])


def test_class_numbers() -> None:
    network = Network(nn.Identity(), {}, ("crane", "tench", "crane"), 9, (1, 1), GREY)
    assert network.class_number("tench") == 1
    assert network.class_number("2") == 2
    with pytest.raises(InputError, match="classes 0, 2 are all called 'crane'"):
        network.class_number("crane")
    with pytest.raises(InputError, match="no class '3'"):
        network.class_number("3")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_state_dicts_survive_their_files(tmp_path: Path, suffix: str) -> None:
    source, other = Branches(), Branches()
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": {f"module.{k}": v for k, v in source.state_dict().items()}}, path)
    else:
        checkpoint.write_state_dict(source, path)
    checkpoint.load_state_dict(other, checkpoint.read_state_dict(path), str(path))
    for one, same in zip(source.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, same)


class Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('this ran')",)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("missing", "no such file"),
        ("truncated", "truncated|damaged"),
        ("code", "not unpickled"),
        ("nan", "'head.bias' has values that are NaN"),
        ("list", "not a state dict"),
        ("text", "not readable as weights"),
    ],
)
def test_bad_checkpoints_are_refused_by_name(tmp_path: Path, fault: str, message: str) -> None:
    path = tmp_path / "bad.pth"
    network = Branches()
    if fault == "nan":
        nn.init.constant_(network.head.bias, float("nan"))
    content = {"code": Payload(), "list": [torch.zeros(3)]}.get(fault, network.state_dict())
    if fault != "missing":
        torch.save(content, path)
    if fault == "truncated":
        path.write_bytes(path.read_bytes()[:500])
    if fault == "text":
        path.write_text("hello world")
    with pytest.raises(InputError, match=message) as caught:
        checkpoint.read_state_dict(path)
    assert "bad.pth" in str(caught.value)


def test_weights_of_another_architecture_are_refused() -> None:
    with pytest.raises(InputError, match=r"squeezenet\.pth does not fit.*'features\.0\.0\.weight'"):
        checkpoint.load_state_dict(
            torchvision.build("mobilenet_v2", 1000),
            torchvision.build("squeezenet1_1", 1000).state_dict(),
            "squeezenet.pth",
        )
    with pytest.raises(InputError, match="another number of classes"):
        checkpoint.load_state_dict(
            torchvision.build("squeezenet1_1", 10),
            torchvision.build("squeezenet1_1", 12).state_dict(),
            "weights",
        )


def test_auxiliary_classifiers_of_googlenet_are_left_out() -> None:
    from torchvision import models

    full = models.GoogLeNet(num_classes=5, init_weights=False)
    network = torchvision.build("googlenet", 5)
    weights = torchvision.translate(full.state_dict())
    checkpoint.load_state_dict(network, weights, "googlenet")
    x = torch.rand((2, 3, 64, 64))
    with torch.no_grad():
        assert torch.allclose(full.eval()(x), network.eval()(x), atol=1e-6)


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_hidden_normalisation_of_torchvision_is_made_plain(name: str) -> None:
    """Pixels, standardised by our defaults, are what torchvision's transform_input makes."""
    from torchvision import models

    usual = models.get_model_weights(name).DEFAULT.transforms()
    pixels = torch.rand((2, 3, 4, 4))
    theirs = torch.stack(
        [
            (pixels[:, c] - usual.mean[c]) / usual.std[c] * (usual.std[c] / 0.5)
            + (usual.mean[c] - 0.5) / 0.5
            for c in range(3)
        ],
        1,
    )
    ours = torchvision.defaults(name)
    found = Standardisation(ours.mean, ours.std).image(pixels)
    assert torch.allclose(found, theirs, atol=1e-5)


def test_defaults_are_those_of_the_weights() -> None:
    found = torchvision.defaults("alexnet")
    assert (found.resize, found.crop, found.mean) == (256, 224, (0.485, 0.456, 0.406))
    assert len(found.classes) == 1000 and found.classes[0] == "tench"
    with pytest.raises(InputError, match=r"no weights 'V7' of alexnet.*IMAGENET1K_V1"):
        torchvision.defaults("alexnet", "V7")
    with pytest.raises(InputError, match="no network 'alexnett'"):
        torchvision.defaults("alexnett")


MODULE = """
import torch
def network():
    torch.manual_seed(5)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
def nothing():
    return 7
def broken():
    raise RuntimeError("out of order")
"""


def test_networks_of_ones_own_are_stored_and_loaded(tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    file.write_text(MODULE)
    made = module.build(f"{file}:network")
    digest = user_code.digest_of(f"{file}:network")
    architecture = {"module": str(file), "factory": "network", "digest": digest}
    network = Network(prepared(made), architecture, ("a", "b", "c"), 9, (8, 8), GREY)
    network.save(tmp_path / "classifier")
    loaded = Network.load(tmp_path / "classifier")
    x = torch.rand((2, 1, 8, 8))
    assert torch.equal(loaded.logits(x), network.logits(x))
    assert loaded.classes == network.classes and loaded.standardisation == GREY
    file.write_text(MODULE + "# changed")
    with pytest.raises(InputError, match="changed since the classifier was stored"):
        Network.load(tmp_path / "classifier")


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("absent", "has no function or class 'absent'"),
        ("nothing", "returned a int, not a torch.nn.Module"),
        ("broken", "RuntimeError: out of order"),
    ],
)
def test_bad_factories_are_refused(tmp_path: Path, factory: str, message: str) -> None:
    file = tmp_path / "net.py"
    file.write_text(MODULE)
    with pytest.raises(InputError, match=message):
        module.build(f"{file}:{factory}")


@pytest.mark.parametrize("shape", [(3, 5, 5), (1, 4, 4)])
def test_patches_are_standardised_as_images_are(shape: tuple[int, ...]) -> None:
    generator = np.random.default_rng(0)
    channels = shape[0]
    one = Standardisation(tuple(generator.random(channels)), tuple(generator.random(channels) + 1))
    x = torch.rand(shape)
    assert torch.allclose(one.patches(x.reshape(1, -1)).reshape(shape), one.image(x))


def test_reduced_precision_is_near_and_keeps_the_head() -> None:
    network = stored(branches())
    readout = Readout((Target.parse("logit:0"), Target.parse("map:conv1:0")))
    x = GREY.image(torch.rand((4, 1, 8, 8)))
    exact, reduced = (
        NetworkNodes(network, readout, {"x": [0, -1]}, "cpu", precision)(x, "x")
        for precision in ("float32", "bfloat16")
    )
    assert not torch.equal(exact, reduced)
    assert torch.allclose(exact, reduced, atol=0.02)
    assert network.module(x).dtype == torch.float32
    with (
        pytest.raises(InputError, match="tf32 needs a GPU"),
        arithmetic(torch.device("cpu"), "tf32"),
    ):
        pass


DATA_CLASS = """
from __future__ import annotations
from dataclasses import dataclass
import torch

@dataclass
class Shape:
    classes: int = 3

def network():
    return torch.nn.Linear(4, Shape().classes)
"""


def test_files_of_networks_may_hold_data_classes(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(DATA_CLASS)
    assert module.build(f"{tmp_path / 'net.py'}:network").out_features == 3


def test_a_single_output_is_the_log_odds_of_the_second_class() -> None:
    z = torch.tensor([[0.3], [-2.0]])
    texts = ["probability:a", "probability:b", "logit:a", "logit:b", "value:b"]
    readout = Readout(tuple(Target.parse(text) for text in texts))
    found = readout(z, {}, [0, 1, 0, 1, 0])
    p = torch.sigmoid(z.double())[:, 0]
    expected = torch.stack([1 - p, p, -z[:, 0].double(), z[:, 0].double(), z[:, 0].double()], 1)
    assert torch.allclose(found, expected, atol=1e-12)


class Sum(nn.Module):
    """One number for an input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1).sum(1, keepdim=True)


@pytest.mark.parametrize(
    ("classes", "has_probabilities", "message"),
    [
        (("a", "b"), True, None),
        (("age",), False, None),
        (("a", "b", "c"), True, "a single number for 3 classes"),
        (("age", "weight"), False, "returns 1 values, but 2 are named"),
    ],
)
def test_single_outputs_are_log_odds_or_values(
    classes: tuple[str, ...], has_probabilities: bool, message: str | None
) -> None:
    network = Network(
        Sum(),
        {},
        classes,
        5,
        (2, 3, 4),
        Standardisation((0.1, 0.2), (1.0, 2.0), 3),
        has_probabilities=has_probabilities,
    )
    if message is None:
        check(network)
        return
    with pytest.raises(InputError, match=message):
        check(network)


def test_volumes_are_standardised_channel_by_channel() -> None:
    x = torch.rand(3, 2, 4, 5, 6)
    found = Standardisation((0.5, 1.0), (2.0, 4.0), 3).image(x)
    assert torch.allclose(found[:, 0], (x[:, 0] - 0.5) / 2) and torch.allclose(
        found[:, 1], (x[:, 1] - 1) / 4
    )
