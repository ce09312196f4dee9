"""Concepts: maps of units, their mass, grid and order, and the classifiers that are refused."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from preddiff.classifiers.linear import LinearClassifier
from preddiff.classifiers.network import Network, prepared
from preddiff.classifiers.standardisation import Standardisation
from preddiff.errors import InputError
from preddiff.methods.concepts import Concepts, concept_maps
from preddiff.targets import Target, expand

METHOD = Concepts(method="concepts", classifier="c")


class Explained(nn.Module):
    """A network with an explanation network's layers on the means of its feature maps."""

    def __init__(self, dimensions: int = 2) -> None:
        super().__init__()
        convolution = (nn.Conv2d, nn.Conv3d)[dimensions - 2]
        self.axes = tuple(range(2, 2 + dimensions))
        self.conv = convolution(1, 6, 2, stride=2)
        self.relu = nn.ReLU()
        self.logits = nn.Linear(6, 3)
        self.xnn = nn.Module()
        self.xnn.encoder = nn.Sequential(nn.Linear(6, 4), nn.ReLU())
        self.xnn.features = nn.Identity()
        self.xnn.weight = nn.Parameter(torch.tensor([[1.0, -2, 3, 1], [0.5, 1, 1, -1]]))
        self.xnn.contributions = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        means = self.relu(self.conv(x)).mean(self.axes)
        features = self.xnn.features(self.xnn.encoder(means))
        self.xnn.contributions((features.unsqueeze(1) * self.xnn.weight).flatten(1))
        return self.logits(means)


def network(dimensions: int = 2) -> Network:
    torch.manual_seed(2)
    module = Explained(dimensions)
    module.conv.weight.data.abs_()
    module.xnn.encoder[0].weight.data += 0.3
    module.xnn.encoder[0].bias.data[1] = -100
    space = (8, 6, 4)[:dimensions]
    standard = Standardisation((0.5,), (0.25,))
    return Network(prepared(module), {}, ("a", "b", "c"), 100, space, standard)


def computed(one: Network, texts: list[str], x: Tensor, method: Concepts = METHOD):
    targets = expand(texts, one.count_maps)
    nodes = one.nodes(targets, {"item": [2 if t.kind != "map" else -1 for t in targets]})
    return method.maps(nodes, x, "item", targets, 0)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_maps_of_contributions_have_the_same_mass_whatever_their_sign(dimensions: int) -> None:
    one = network(dimensions)
    x = torch.rand(1, *one.space)
    found = computed(one, [METHOD.default_target], x)
    assert found.relevance.shape == (8, *one.space)
    assert bool((found.relevance >= 0).all()) and not found.stderr.any() and not found.notes
    torch.testing.assert_close(found.relevance.flatten(1).sum(1), torch.ones(8).double())
    # Contributions are v E; the map is that of the x-feature for each class.
    torch.testing.assert_close(found.relevance[:4], found.relevance[4:])
    features = computed(one, ["layer:xnn.features"], x)
    torch.testing.assert_close(found.relevance[:4], features.relevance)
    weights = one.module.xnn.weight.double()
    torch.testing.assert_close(found.values, (weights * features.values).flatten())
    assert features.values[1] == 0


def test_a_map_is_interpolated_from_the_layer() -> None:
    """By hand: p of the means of maps, then shared by activation over 4 x 3 units."""
    one = network()
    x = torch.rand(1, 8, 6)
    maps = one.module.relu(one.module.conv(x[None]))[0].detach()
    excited = one.module.xnn.encoder[0].weight[2].detach().clamp(min=0) * maps.mean((1, 2))
    p = excited / excited.sum()
    coarse = (p[:, None, None] * maps / maps.sum((1, 2), keepdim=True)).nansum(0)
    expected = functional.interpolate(coarse[None, None], size=(8, 6), mode="bilinear")[0, 0]
    found = computed(one, ["map:xnn.features:2"], x).relevance[0]
    torch.testing.assert_close(found, (expected / expected.sum()).double())


def test_any_target_of_a_network_has_a_map() -> None:
    one = network()
    texts = ["probability:c", "map:relu:4", "logit:c", "map:xnn.features:0"]
    x = torch.rand(1, 8, 6)
    found = computed(one, texts, x).relevance
    torch.testing.assert_close(found[0], found[2])
    for number, text in enumerate(texts):
        torch.testing.assert_close(found[number], computed(one, [text], x).relevance[0])


def test_the_layer_is_a_setting() -> None:
    method = Concepts(method="concepts", classifier="c", layer="conv")
    assert method.provenance() == {"method": "concepts", "layer": "conv"}
    with pytest.raises(InputError, match="layer 'logits' has no feature maps"):
        wrong = Concepts(method="concepts", classifier="c", layer="logits")
        computed(network(), ["logit:c"], torch.rand(1, 8, 6), wrong)
    one = network()
    computed(one, ["logit:c"], torch.rand(1, 8, 6), method)


def test_units_that_nothing_excites_are_noted() -> None:
    one = network()
    one.module.xnn.encoder[0].weight[3] = -1
    found = computed(one, ["layer:xnn.features"], torch.rand(1, 8, 6))
    assert not found.relevance[3].any() and found.relevance[:3].flatten(1).any(1).all()
    (note,) = found.notes
    assert "map:xnn.features:3" in note


def test_classifiers_without_layers_are_refused() -> None:
    classifier = LinearClassifier(np.ones((1, 2, 2, 2)), 0.5, ("a", "b"), 9, (0, 0, 0))
    targets = [Target("logit", "b")]
    with pytest.raises(InputError, match="needs a classifier with layers"):
        METHOD.maps(classifier.nodes(targets, {}), torch.rand(1, 2, 2, 2), "item", targets, 0)


def test_maps_do_not_depend_on_what_else_is_computed() -> None:
    one = network()
    targets = expand(["map:xnn.features:0", "probability:top-1", "map:relu:1"], one.count_maps)
    classes = {"a": [-1, 0, -1], "b": [-1, 2, -1]}
    nodes = one.nodes(targets, classes)
    x = torch.rand(2, 1, 8, 6)
    batch = METHOD.maps_of_batch(nodes, x, list(classes), targets, [0, 0])
    for item, x_of_item, found in zip(classes, x, batch, strict=True):
        single = METHOD.maps(nodes, x_of_item, item, targets, 0)
        # The same bits, so that shards and resumed jobs give the same stores.
        assert torch.equal(single.relevance, found.relevance)
        assert torch.equal(single.values, found.values)
        (alone,) = concept_maps(one.module, x_of_item[None], [("relu", [1])])
        assert torch.equal(found.relevance[2:], alone)
