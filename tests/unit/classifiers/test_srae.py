"""The explanation network: its layers and losses, and its place in the network that it explains."""

import math
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from preddiff.classifiers.explanation_network import describe
from preddiff.classifiers.layers import WithMeans, list_layers
from preddiff.classifiers.network import Network, located, prepared
from preddiff.classifiers.network_nodes import NetworkNodes
from preddiff.classifiers.precision import InFloat32, keep_head_in_float32
from preddiff.classifiers.readout import Readout
from preddiff.classifiers.srae import ExplanationHead, attach, decoder_of
from preddiff.classifiers.srae_losses import faithfulness, pull_away, sparse_reconstruction
from preddiff.classifiers.standardisation import Standardisation
from preddiff.engines.dense import Dense
from preddiff.engines.incremental.engine import Incremental
from preddiff.errors import InputError
from preddiff.methods.sensitivity import sensitivity
from preddiff.samplers.grey import Grey
from preddiff.targets import Target, expand
from preddiff.user_code import digest_of
from preddiff.windows import Windows

SPACE = (20, 20)


def network() -> nn.Sequential:
    torch.manual_seed(3)
    made = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(800, 12),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(12, 4),
    )
    return made.eval()


class Residual(nn.Module):
    """A network with a sum, and a layer that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.first = nn.Conv2d(1, 6, 3, padding=1)
        self.second = nn.Conv2d(6, 6, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.logits = nn.Linear(6, 3)

    def forward(self, x):
        x = self.relu(self.first(x))
        x = self.relu(self.second(x) + x)
        return self.logits(torch.flatten(nn.functional.adaptive_avg_pool2d(x, 1), 1))


def head(sizes=(12, 7, 3), classes: int = 2) -> ExplanationHead:
    torch.manual_seed(7)
    made = ExplanationHead(sizes, classes).eval()
    with torch.no_grad():
        for parameter in made.encoder.parameters():
            # None negative, so that no feature is 0 for all inputs.
            parameter.abs_()
        made.contributions.weight.copy_(torch.randn(classes, sizes[-1]))
        made.scores.bias.copy_(torch.randn(classes))
    return made


# The head.


def test_contributions_and_the_bias_are_the_scores() -> None:
    one, z = head(), torch.rand(5, 12)
    names = [name for name, _ in one.named_children()]
    assert names == ["inputs", "encoder", "features", "contributions", "scores"]
    features = one.features(one.encoder(z))
    found = one.contributions(features)
    assert (features >= 0).all() and found.shape == (5, 6)
    for c in range(2):
        for f in range(3):
            wanted = one.contributions.weight[c, f] * features[:, f]
            torch.testing.assert_close(found[:, c * 3 + f], wanted)
        total = found[:, c * 3 : c * 3 + 3].sum(1) + one.scores.bias[c]
        torch.testing.assert_close(one(z)[:, c], total)


def test_layers_are_as_in_the_paper() -> None:
    encoder = [type(layer) for layer in head((9, 8, 4, 2)).encoder]
    assert encoder == [
        nn.Linear, nn.ReLU, nn.Dropout, nn.Linear, nn.ReLU, nn.Linear, nn.ReLU
    ]  # fmt: skip
    decoder = decoder_of((9, 8, 4, 2))
    assert [type(layer) for layer in decoder] == [nn.Linear, nn.ReLU] * 3
    assert decoder(torch.rand(3, 2)).shape == (3, 9) and (decoder(torch.rand(3, 2)) >= 0).all()


# The losses.


def test_faithfulness_refuses_targets_that_broadcast() -> None:
    y = torch.rand(4, 1)
    assert faithfulness(y, y + 2) == pytest.approx(4.0)
    for wrong in (y[:, :, None], y[:, 0], y[:1], y.T):
        with pytest.raises(ValueError, match="shapes"):
            faithfulness(y, wrong)
        with pytest.raises(ValueError, match="shapes"):
            sparse_reconstruction(y, wrong, 100.0)


def test_errors_in_one_unit_cost_less_than_errors_in_all() -> None:
    z = torch.zeros(3, 4)
    one = z.clone()
    one[:, 2] = 2.0
    assert sparse_reconstruction(one, z, 100.0) == pytest.approx(math.log(401) / 4)
    assert sparse_reconstruction(one, z, 100.0) == pytest.approx(1.50, abs=0.005)
    assert sparse_reconstruction(z + 1, z, 100.0) == pytest.approx(4.62, abs=0.005)


def test_for_small_q_the_reconstruction_loss_is_the_mean_squared_error() -> None:
    torch.manual_seed(0)
    a, b = torch.rand(2, 6, 5, dtype=torch.float64)
    found = sparse_reconstruction(a, b, 1e-7) / 1e-7
    assert float(found) == pytest.approx(float(((a - b) ** 2).mean()), rel=1e-5)


def test_features_are_pulled_away_from_each_other() -> None:
    disjoint = torch.tensor([[1.0, 0, 0], [2, 0, 0], [0, 3, 0], [0, 0, -1]])
    assert pull_away(disjoint, "features") == pytest.approx(0.0, abs=1e-6)
    same = torch.tensor([1.0, 2, 5, 1])[:, None] * torch.tensor([1.0, -2, 3])
    assert pull_away(same, "features") == pytest.approx(1.0)
    assert pull_away(same, "images") == pytest.approx(1.0)
    assert pull_away(same[:, :1], "features") == 0


@given(st.integers(2, 5), st.integers(1, 4))
def test_images_cannot_be_pulled_away_further_than_the_bound(n: int, times: int) -> None:
    rows, count = torch.eye(n).repeat(times, 1), n * times
    bound = (count - n) / (n * (count - 1))
    assert pull_away(rows, "images") == pytest.approx(bound, abs=1e-5)
    generator = torch.Generator().manual_seed(times)
    others = torch.rand((count, n), generator=generator)
    assert pull_away(others, "images") >= bound - 1e-6


def test_pull_away_of_classes_is_the_mean_over_them() -> None:
    torch.manual_seed(1)
    a = torch.randn(6, 2, 3)
    for over in ("features", "images"):
        # A pair at a time, in NumPy.
        wanted = []
        for c in range(2):
            rows = a[:, c].numpy().T if over == "features" else a[:, c].numpy()
            for i in range(len(rows)):
                for j in range(len(rows)):
                    if i != j:
                        norm = np.linalg.norm(rows[i]) * np.linalg.norm(rows[j])
                        wanted.append((rows[i] @ rows[j] / norm) ** 2)
        assert pull_away(a, over) == pytest.approx(np.mean(wanted), rel=1e-5)


# Its place in a network.


@pytest.mark.parametrize(
    ("made", "layer", "maps", "axes"),
    [
        (network, "7", 12, 0),
        (network, "7", 12, None),
        (network, "3", 8, 2),
        (network, "3", 8, None),
        (Residual, "relu_1", 6, 2),
    ],
)
def test_logits_stay_bit_equal(made, layer: str, maps: int, axes) -> None:
    base, x = made().eval(), torch.randn(6, 1, *SPACE)
    one = head((maps, 5, 3))
    attached = attach(base, layer, one, axes)
    with torch.no_grad():
        assert torch.equal(attached(x), base(x.clone()))
        names = ["xnn.features", "xnn.contributions", "xnn.scores", layer]
        logits, means = WithMeans(attached, names)(x)
        assert torch.equal(logits, base(x.clone()))
        z = WithMeans(base, [layer])(x)[1][layer].float()
        torch.testing.assert_close(means[layer].float(), z)
        torch.testing.assert_close(means["xnn.scores"].float(), one(z))
        torch.testing.assert_close(means["xnn.features"].float(), one.encoder(z))
    assert not attached.training


def test_features_and_contributions_are_layers() -> None:
    attached = attach(network(), "7", head(), 0)
    layers = {one.name: one.maps for one in list_layers(attached, torch.zeros(1, 1, *SPACE))}
    assert layers["xnn.features"] == 3
    assert [maps for name, maps in layers.items() if name.startswith("xnn.contrib")] == [6]
    stored = Network(prepared(attached), {}, tuple("abcd"), 9, SPACE, Standardisation((0,), (1,)))
    found = expand(["layer:xnn.contributions", "map:xnn.scores:1"], stored.count_maps)
    assert found[5] == Target("map", "xnn.contributions:5") and len(found) == 7
    with pytest.raises(InputError, match="has maps 0 to 5"):
        expand(["map:xnn.contributions:6"], stored.count_maps)


def in_parts() -> nn.Module:
    layers = list(network())
    return nn.Sequential(nn.Sequential(*layers[:6]), nn.Sequential(*layers[6:])).eval()


@pytest.mark.parametrize(("made", "layer"), [(network, "7"), (in_parts, "1.1")])
def test_the_last_layer_that_reduced_precision_spares_is_the_networks_own(made, layer) -> None:
    attached = attach(made(), layer, head(), 0)
    keep_head_in_float32(attached)
    kept = [part.layer for part in attached.modules() if isinstance(part, InFloat32)]
    assert [part.out_features for part in kept] == [4]


def test_there_is_one_explanation_network_per_network() -> None:
    with pytest.raises(InputError, match="'xnn' already"):
        attach(attach(network(), "7", head(), 0), "7", head(), 0)
    with pytest.raises(InputError, match="has no layer 'nine'"):
        attach(network(), "nine", head())


class Branching(nn.Module):
    """Its path depends on values, so that it cannot be traced."""

    def forward(self, x):
        return x if x.sum() > 0 else -x


def test_a_network_that_cannot_be_traced_is_refused() -> None:
    with pytest.raises(InputError, match="cannot trace"):
        attach(Branching(), "any", head())


TARGETS = (
    "logit:1", "map:xnn.contributions:0", "map:xnn.contributions:5", "map:xnn.features:1",
    "map:xnn.scores:1",
)  # fmt: skip


@pytest.mark.parametrize(("layer", "maps", "axes"), [("7", 12, 0), ("3", 8, 2), ("3", 8, None)])
def test_engines_agree_about_contributions(layer: str, maps: int, axes, capsys) -> None:
    standardisation = Standardisation((0.3,), (0.4,))
    attached = attach(network(), layer, head((maps, 6, 3)), axes)
    stored = Network(prepared(attached), {}, tuple("abcd"), 9, SPACE, standardisation)
    readout = Readout(tuple(Target.parse(text) for text in TARGETS))
    windows = Windows(SPACE, 3, stride=2)
    x = np.random.default_rng(2).random((1, 1, *SPACE), dtype=np.float32)
    dense, ours = (
        kind(
            NetworkNodes(stored, readout, {"i": [1, -1, -1, -1, -1]}),
            Grey(0.5),
            windows,
            1,
            seed=2,
            standardisation=standardisation,
        ).expectations(x, ["i"], windows.everything)
        for kind in (Dense, Incremental)
    )
    assert "densely" not in capsys.readouterr().err
    scale = np.abs(dense.change).max(axis=(2, 3), keepdims=True)
    assert (np.abs(ours.change - dense.change) <= 1e-4 * scale + 1e-7).all()
    assert (scale > 0).all()


def test_contributions_can_be_differentiated() -> None:
    attached = attach(network(), "7", head(), 0)
    stored = Network(prepared(attached), {}, tuple("abcd"), 9, SPACE, Standardisation((0,), (1,)))
    targets = [Target("map", f"xnn.contributions:{n}") for n in range(6)]
    nodes = stored.nodes(targets, {"i": [-1] * 6})
    values, maps = sensitivity(lambda x: nodes(x, "i"), torch.rand(1, *SPACE))
    assert maps.shape == (6, *SPACE)
    assert values.shape == (6,) and (maps.amax((1, 2)) > 0).all()


def test_a_nested_network_of_a_users_file_is_rebuilt(tmp_path: Path) -> None:
    source = "import torch\nfrom torch import nn\n\n\ndef made():\n"
    source += "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), "
    source += "nn.Linear(12, 3))\n"
    (tmp_path / "own").mkdir()
    file = tmp_path / "own" / "net.py"
    file.write_text(source)
    torch.manual_seed(4)
    base = nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 3)).eval()
    about = {"module": str(file), "factory": "made", "digest": digest_of(f"{file}:made")}
    grey = Standardisation((0.0,), (1.0,))
    Network(prepared(base), about, ("a", "b", "c"), 9, (8, 8), grey).save(tmp_path / "base")
    read = Network.load(tmp_path / "base")
    one = head()
    nested = describe(located(read.architecture, tmp_path / "base"), "2", 0, one.sizes, [0, 2])
    attached = attach(read.module, "2", one, 0)
    deep = tmp_path / "much" / "deeper" / "xnn"
    Network(prepared(attached), nested, ("a", "b", "c"), 9, (8, 8), grey).save(deep)
    found = Network.load(deep)
    x = torch.rand(3, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(found.module(x), base(x))
        means = WithMeans(found.module, ["xnn.scores"])(x)[1]["xnn.scores"]
        torch.testing.assert_close(means.float(), one(base[:3](x)))
    assert found.kind == "explanation-network"
    assert any("module:ModuleClassifier" in root for root in found.code)
    (tmp_path / "much").rename(tmp_path / "moved")
    with pytest.raises(InputError, match="Python file"):
        (tmp_path / "own").rename(tmp_path / "elsewhere")
        Network.load(tmp_path / "moved" / "deeper" / "xnn")


class Block(nn.Module):
    """Two branches that are concatenated, as in SqueezeNet."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Conv2d(2, 3, 1), nn.Conv2d(2, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.one(x).relu(), self.other(x).relu()], 1)


def test_the_activations_of_a_block_keep_a_name() -> None:
    torch.manual_seed(0)
    layers = OrderedDict(block=Block(), pool=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten())
    network = nn.Sequential(OrderedDict(**layers, logits=nn.Linear(7, 3))).eval()
    attached = attach(network, "block", ExplanationHead([7, 4, 2], 1).eval(), 2)
    x = torch.randn(3, 2, 5, 5)
    _, wanted = WithMeans(network, ["block"])(x)
    _, found = WithMeans(attached, ["xnn.inputs"])(x)
    torch.testing.assert_close(found["xnn.inputs"], wanted["block"], rtol=1e-6, atol=1e-7)
