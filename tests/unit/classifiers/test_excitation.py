"""Excitation backpropagation: numbers by hand and by loops, conservation, and what is refused."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torchvision import models

from preddiff.classifiers.excitation import Excitation
from preddiff.classifiers.layers import OUTPUT
from preddiff.errors import InputError


def frozen(network: nn.Module) -> nn.Module:
    return network.eval().requires_grad_(False)


def one_hot(run: Excitation, number: int) -> Tensor:
    p = torch.zeros_like(run.units)
    p[:, number] = 1
    return p


def linear(weights: list[list[float]]) -> nn.Linear:
    layer = nn.Linear(len(weights[0]), len(weights))
    layer.load_state_dict({"weight": torch.tensor(weights), "bias": torch.zeros(len(weights))})
    return layer


def test_two_layers_by_hand() -> None:
    """Hidden units 1 - 2 + 6 = 5 and 2 + 2 - 3 = 1 have 5/8 and 3/8 of 5 + 3 * 1.

    The first passes 1/7 and 6/7 on to inputs 1 and 3, of 1 + 2 * 3; the second halves to 1 and 2.
    """
    hidden = linear([[1.0, -1, 2, 5], [2, 1, -1, 0]])
    network = nn.Sequential(nn.ReLU(), nn.Flatten(), hidden, nn.ReLU(), linear([[1.0, 3], [0, 0]]))
    x = torch.tensor([1.0, 2, 3, 0]).reshape(1, 1, 2, 2)
    run = Excitation(frozen(network), x, OUTPUT)
    assert run.stop == "0" and run.units.tolist() == [[8, 0]]
    expected = torch.tensor([31.0, 21, 60, 0]).reshape(1, 2, 2) / 112
    torch.testing.assert_close(run(one_hot(run, 0)), expected)
    # Nothing excites the second logit, whose weights are 0.
    assert not run(one_hot(run, 1)).any()


# An oracle of loops, which shares no code with the package.


def by_loops(x: np.ndarray, weight: np.ndarray, p: np.ndarray, stride: int) -> np.ndarray:
    """One convolution with a padding of 1: x (in, *space), weight (out, in, *kernel), p of out."""
    space = x.shape[1:]
    found = np.zeros_like(x)
    for unit in np.ndindex(p.shape):
        excited = {}
        for c, *offset in np.ndindex(weight.shape[1:]):
            place = tuple(stride * at + step - 1 for at, step in zip(unit[1:], offset, strict=True))
            if all(0 <= at < n for at, n in zip(place, space, strict=True)):
                w = max(weight[(unit[0], c, *offset)], 0)
                excited[(c, *place)] = w * x[(c, *place)]
        total = sum(excited.values())
        for place, part in excited.items():
            if total > 0:
                found[place] += part / total * p[unit]
    return found


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10**6), dimensions=st.sampled_from([2, 3]), stride=st.sampled_from([1, 2])
)
def test_random_convolutions_by_loops(seed: int, dimensions: int, stride: int) -> None:
    torch.manual_seed(seed)
    convolution = (nn.Conv2d, nn.Conv3d)[dimensions - 2]
    x = torch.randn(1, 1, *(5, 4, 3)[:dimensions], dtype=torch.float64)
    units = 3 * int(np.prod([-(-n // stride) for n in x.shape[2:]]))
    network = frozen(
        nn.Sequential(
            convolution(1, 2, 3, padding=1),
            nn.ReLU(),
            convolution(2, 3, 3, stride, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(units, 2),
        )
    ).double()
    first = network[:2](x)
    second = network[2:4](first)
    weights = network[5].weight.detach().clamp(min=0).numpy()
    run = Excitation(network, x, OUTPUT, "1")
    for number in range(2):
        excited = weights[number] * second.numpy().ravel()
        p = (excited / (excited.sum() or 1)).reshape(second.shape[1:])
        expected = by_loops(first[0].numpy(), network[2].weight.detach().numpy(), p, stride)
        np.testing.assert_allclose(run(one_hot(run, number))[0], expected.sum(0), atol=1e-12)


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), dimensions=st.sampled_from([2, 3]))
def test_mass_is_conserved_and_not_negative(seed: int, dimensions: int) -> None:
    """Biases, groups, pooling and normalisation included, where every unit is excited."""
    torch.manual_seed(seed)
    d = dimensions - 2
    convolution = (nn.Conv2d, nn.Conv3d)[d]
    network = frozen(
        nn.Sequential(
            convolution(1, 4, 3, padding=1),
            nn.ReLU(),
            convolution(4, 6, 3, padding=1, groups=2),
            (nn.BatchNorm2d, nn.BatchNorm3d)[d](6),
            nn.ReLU6(),
            (nn.MaxPool2d, nn.MaxPool3d)[d](2),
            (nn.AvgPool2d, nn.AvgPool3d)[d](2, 1, 1),
            (nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)[d](1),
            nn.Flatten(),
            nn.Dropout(),
            nn.Linear(6, 3),
        )
    )
    for layer in (network[0], network[2], network[10]):
        layer.bias.fill_(3)
        # One positive weight each, so that something excites every unit.
        layer.weight.flatten(1)[:, layer.weight[0].numel() // 2] = 0.5
    x = torch.rand(2, 1, *(8, 8, 8)[:dimensions])
    assert (network[:2](x) > 0).all()
    run = Excitation(network, x, OUTPUT, "1")
    found = run(torch.tensor([[0.2, 0.3, 0.5], [1, 0, 0]]))
    assert found.shape == (2, *(8, 8, 8)[:dimensions])
    assert bool((found >= 0).all())
    torch.testing.assert_close(found.flatten(1).sum(1), torch.ones(2))


def test_it_stays_inside_a_planted_patch() -> None:
    torch.manual_seed(1)
    network = frozen(
        nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1, bias=False),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 8, 3, padding=1, bias=False),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(8 * 64, 4),
        )
    )
    x = torch.zeros(1, 1, 16, 16)
    x[0, 0, 4:8, 9:13] = torch.rand(4, 4) + 0.5
    run = Excitation(network, x, OUTPUT, "1")
    found = run(one_hot(run, 2))[0]
    inside = torch.zeros(16, 16, dtype=torch.bool)
    inside[3:9, 8:14] = True  # one pixel around it, as wide as the first convolution
    assert found[inside].sum() == pytest.approx(1, abs=1e-5)
    assert not found[~inside].any()


class Branches(nn.Module):
    """A sum and a concatenation of branches, one of them signed, and max pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.ReLU()
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        both = torch.cat([x, x + (x - 2)], 1)
        return self.pool(both).flatten(1) * torch.tensor([1.0, -3])


def test_branches_by_hand() -> None:
    """The largest unit, 3 at the lower left, has it all; in the sum, 3 of 3 + 1 and 1 of it."""
    x = torch.tensor([1.0, 2, 3, 0]).reshape(1, 1, 2, 2)
    run = Excitation(frozen(Branches()), x, OUTPUT, "stem")
    lower_left = torch.tensor([0.0, 0, 1, 0]).reshape(1, 2, 2)
    torch.testing.assert_close(run(one_hot(run, 0)), lower_left)
    torch.testing.assert_close(run(one_hot(run, 1)), lower_left)


class Residual(nn.Module):
    """A residual block whose branch is signed, before a ReLU and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.ReLU()
        self.branch = nn.Conv2d(1, 1, 1)
        weight, bias = torch.full((1, 1, 1, 1), 2.0), torch.tensor([-5.0])
        self.branch.load_state_dict({"weight": weight, "bias": bias})
        self.head = linear([[1.0, 1, 1, 1]])

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(torch.relu(x + self.branch(x)).flatten(1))


def test_a_negative_term_of_a_sum_does_not_excite() -> None:
    """The branch is -3, -1, 1 and -5: sums are 0, 1, 4 and 0, of 0, 2, 3 + 1 and 0."""
    x = torch.tensor([1.0, 2, 3, 0]).reshape(1, 1, 2, 2)
    network = frozen(Residual())
    run = Excitation(network, x, OUTPUT, "stem")
    expected = torch.tensor([0, 0.2, 0.8, 0]).reshape(1, 2, 2)
    torch.testing.assert_close(run(torch.ones(1, 1)), expected)
    # What goes around the layer does not pass through it: a quarter of 0.8.
    run = Excitation(network, x, OUTPUT, "branch")
    torch.testing.assert_close(run(torch.ones(1, 1)).sum(), torch.tensor(0.2))


def test_normalisation_with_a_negative_scale_counts_as_part_of_the_layer() -> None:
    torch.manual_seed(0)
    signs = torch.tensor([-1.5, 2, -0.5])
    layer, normalised, folded = nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3, eps=0), nn.Conv2d(1, 3, 3)
    normalised.load_state_dict({**normalised.state_dict(), "weight": signs})
    weight, bias = layer.weight * signs.reshape(3, 1, 1, 1), layer.bias * signs
    folded.load_state_dict({"weight": weight, "bias": bias})
    end = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(27, 2))
    x = torch.rand(1, 1, 5, 5)
    found = []
    for layers in ([layer, normalised], [folded]):
        run = Excitation(frozen(nn.Sequential(nn.ReLU(), *layers, *end)), x, OUTPUT, "0")
        found.append(run(one_hot(run, 0)))
    assert found[0].any()
    torch.testing.assert_close(*found)


# Where it stops, and what is refused.


def small_network() -> nn.Module:
    torch.manual_seed(0)
    return frozen(
        nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(4, 4, 3, padding=1),
            nn.Tanh(),
            nn.Conv2d(4, 4, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64, 5),
            nn.ReLU(),
            nn.Linear(5, 3),
        )
    )


X = torch.rand(1, 1, 8, 8)


@pytest.mark.parametrize(
    ("start", "stop"), [(OUTPUT, "6"), ("9", "6"), ("6", "6"), ("3", "2"), ("2", "2"), ("1", "1")]
)
def test_the_default_is_the_last_layer_with_maps_that_are_never_negative(
    start: str, stop: str
) -> None:
    network = small_network()
    if start == "3":
        # Maps that are negative somewhere have no mean that excitation could be shared by.
        network[3].bias.fill_(50)
    assert Excitation(network, X, start).stop == stop


def test_units_of_a_layer_with_maps_are_their_means() -> None:
    network = small_network()
    run = Excitation(network, X, "1")
    maps = network[:2](X)
    torch.testing.assert_close(run.units, maps.mean((2, 3)).double())
    torch.testing.assert_close(run(one_hot(run, 1)), maps[:, 1] / maps[:, 1].sum())


@pytest.mark.parametrize(
    ("start", "stop", "message"),
    [
        (OUTPUT, "2", r"signed activations at the input of layer '5' \(Conv2d\).*such as '6'$"),
        ("3", None, r"signed activations at the input of the means of the maps of layer '3'"),
        (OUTPUT, "8", r"layer '8' has no feature maps of several units.*'1', '2', '6'"),
        ("1", "6", r"layer '1' does not depend on layer '6'; stop .* such as '1'"),
        (OUTPUT, "nothing", "no layer 'nothing'"),
    ],
)
def test_what_does_not_fit_is_refused(start: str, stop: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Excitation(small_network(), X, start, stop)


def test_an_operation_without_a_rule_is_named() -> None:
    network = small_network()
    network[9] = nn.Softplus()
    with pytest.raises(InputError, match=r"no rule for layer '9' \(Softplus\); no layer fits"):
        Excitation(network, X, OUTPUT)


def test_only_the_last_layers_of_a_network_with_linear_bottlenecks_fit() -> None:
    network = frozen(models.mobilenet_v2(weights=None))
    x = torch.rand(1, 3, 64, 64)
    run = Excitation(network, x, OUTPUT)
    assert run.stop == "features.18.2" and run.space == (2, 2)
    with pytest.raises(InputError, match=r"MobileNetV2.*stop at .* such as 'features\.18\.2'$"):
        Excitation(network, x, OUTPUT, "features.10")


@pytest.mark.parametrize("name", ["resnet18", "densenet121"])
def test_networks_of_torchvision(name: str) -> None:
    network = frozen(models.get_model(name, weights=None, num_classes=4))
    run = Excitation(network, torch.rand(2, 3, 64, 64), OUTPUT)
    found = run(torch.full((2, 4), 0.25))
    assert bool((found >= 0).all())
    torch.testing.assert_close(found.flatten(1).sum(1), torch.ones(2))
