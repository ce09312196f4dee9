"""Masses over parts: a layer and its weights agree, and only positive weights count."""

import pytest
import torch

from preddiff.classifiers.excitation import shares
from preddiff.classifiers.parts import mass_over_parts
from preddiff.errors import InputError
from tests.unit.classifiers.test_excitation import X, small_network


def test_linear_features_are_treated_like_a_layer() -> None:
    network = small_network()
    x = torch.rand(3, 1, 8, 8)
    as_layer = mass_over_parts(network, x, "8", stop="6")
    as_weights = mass_over_parts(network, x, "7", network[8].weight, stop="6")
    assert as_layer.shape == (3, 5, 16)
    torch.testing.assert_close(as_layer, as_weights)
    torch.testing.assert_close(as_layer.sum(2), torch.ones(3, 5))


def test_parts_of_linear_features_of_maps() -> None:
    """h = 2 mean of map 0 - mean of map 1: only map 0 excites it."""
    network = small_network()
    maps = network[:2](X)
    found = mass_over_parts(network, X, "1", torch.tensor([[2.0, -1, 0, 0], [0, -1, 0, 0]]))
    torch.testing.assert_close(found[:, 0], shares(maps[:, 0]).flatten(1))
    assert not found[:, 1].any()


def test_linear_features_must_fit() -> None:
    with pytest.raises(
        InputError, match=r"weights of shape \(2, 3\) do not fit layer '9'.*5 units"
    ):
        mass_over_parts(small_network(), X, "9", torch.ones(2, 3))
    with pytest.raises(InputError, match="layer '8' has negative activations"):
        mass_over_parts(small_network(), X, "8", torch.ones(2, 5))
