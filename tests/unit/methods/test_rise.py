"""RISE: the expected map of a linear classifier, errors, masks and seeds."""

from itertools import product

import numpy as np
import pytest
import torch

from preddiff.classifiers.linear import LinearClassifier
from preddiff.errors import InputError
from preddiff.methods.base import METHODS, Maps
from preddiff.methods.rise import random_masks
from preddiff.settings.base import validate
from preddiff.targets import Target
from tests.unit.methods.networks import ITEM, LOGITS, images, item_of, nodes_of, volumes

SIDES = [Target("logit", "patient"), Target("logit", "control")]


def rise(nodes, x: torch.Tensor, targets, seed: int = 0, **settings) -> Maps:
    given = {"method": "rise", "classifier": "c", **settings}
    return validate(METHODS["rise"], given, "study").maps(nodes, x, ITEM, targets, seed)


def shares(n: int, cells: int) -> np.ndarray:
    """Shares of the cells in the voxels of an axis, for each shift: (shift, voxel, cell).

    A cell's centre lies at (c + 1/2) times its stretched length; between centres the interpolation
    is linear, and constant beyond the first and last.
    """
    side = -(-n // cells)
    stretched = side * (cells + 1) / cells
    centres = (np.arange(cells) + 0.5) * stretched
    at = np.arange(n) + np.arange(side)[:, None] + 0.5
    hats = np.eye(cells)
    return np.stack([[np.interp(row, centres, hat) for hat in hats] for row in at]).transpose(
        0, 2, 1
    )


def expected_map(weights, intercept: float, x, fill, cells: int, p: float) -> np.ndarray:
    """The limit of the map for w x + b: with x' = fill + M (x - fill), E[f(x') M] / p.

    E[M_u M_v] = p^2 + p (1 - p) sum over cells of the mean, over shifts, of the product of shares.
    """
    space = x.shape[1:]
    together = np.zeros((np.prod(space),) * 2)
    axes = [shares(n, cells) for n in space]
    shifts = list(product(*(range(len(axis)) for axis in axes)))
    for shift in shifts:
        share = np.ones((1, 1))
        for axis, s in zip(axes, shift, strict=True):
            share = np.kron(share, axis[s])
        together += share @ share.T / len(shifts)
    moments = p**2 + p * (1 - p) * together
    effect = (weights * (x - fill)).sum(0).reshape(-1)
    constant = (weights * fill).sum() + intercept
    return (moments @ effect / p + constant).reshape(space)


@pytest.mark.parametrize("fill", ["zero", "mean"])
@pytest.mark.parametrize(("space", "cells", "p"), [((6, 7, 5), 3, 0.5), ((5, 4, 6), 2, 0.3)])
def test_the_map_of_a_linear_classifier(fill: str, space, cells: int, p: float) -> None:
    generator = np.random.default_rng(4)
    weights, x = generator.normal(size=(2, *space)), generator.normal(size=(2, *space)) + 1
    classifier = LinearClassifier(weights, -0.7, ("control", "patient"), 9, (0, 0, 0))
    found = rise(
        classifier.nodes(SIDES, {}), torch.from_numpy(x), SIDES,
        masks=6000, cells=cells, probability=p, fill=fill,
    )  # fmt: skip
    values = 0.0 if fill == "zero" else x.mean((1, 2, 3), keepdims=True)
    expected = expected_map(weights, -0.7, x, np.broadcast_to(values, x.shape), cells, p)
    for sign, relevance, error in zip((1, -1), found.relevance, found.stderr, strict=True):
        scores = (relevance.numpy() - sign * expected) / error.numpy()
        assert np.sqrt((scores**2).mean()) < 2
        assert np.abs(scores).max() < 5
        assert np.abs(expected).max() > 10 * error.numpy().max()


def test_errors_are_those_of_repetitions() -> None:
    network = images()
    nodes, x = nodes_of(network), item_of(network)
    found = [rise(nodes, x, LOGITS, seed, masks=100, cells=3) for seed in range(40)]
    spread = torch.stack([one.relevance for one in found]).std(0)
    error = torch.stack([one.stderr for one in found]).square().mean(0).sqrt()
    assert float((spread / error).square().mean()) == pytest.approx(1, abs=0.25)


@pytest.mark.parametrize("space", [(9, 14), (5, 6, 7)])
def test_masks_are_random_grids_of_the_given_mean(space: tuple[int, ...]) -> None:
    masks = torch.cat(list(random_masks(space, 3000, 4, 0.3, 2)))
    assert masks.shape == (3000, *space)
    assert masks.min() == 0 and float(masks.max()) == pytest.approx(1)
    assert np.abs(masks.mean(0).numpy() - 0.3).max() < 5 * 0.46 / np.sqrt(3000)
    assert len(torch.unique(masks.flatten(1), dim=0)) > 2000


@pytest.mark.parametrize("network", [images(), volumes()], ids=["2-D", "3-D"])
def test_maps_depend_on_the_seed_only(network) -> None:
    nodes, x = nodes_of(network), item_of(network)
    state = torch.random.get_rng_state()
    found = rise(nodes, x, LOGITS, 1, masks=70, cells=3)
    assert found.relevance.shape == found.stderr.shape == (2, *network.space)
    assert torch.equal(found.values, nodes(x[None], ITEM)[0])
    assert torch.equal(torch.random.get_rng_state(), state)
    again = rise(nodes, x, LOGITS, 1, masks=70, cells=3)
    assert torch.equal(again.relevance, found.relevance)
    assert torch.equal(again.stderr, found.stderr)
    alone = rise(nodes_of(network, LOGITS[1:]), x, LOGITS[1:], 1, masks=70, cells=3)
    assert torch.allclose(alone.relevance[0], found.relevance[1], rtol=1e-9)
    other = rise(nodes, x, LOGITS, 2, masks=70, cells=3)
    assert not torch.equal(other.relevance, found.relevance)


def test_few_masks_are_the_first_of_many() -> None:
    many = torch.cat(list(random_masks((8, 8), 64, 3, 0.5, 0)))
    few = torch.cat(list(random_masks((8, 8), 32, 3, 0.5, 0)))
    assert torch.equal(many[:32], few)


@pytest.mark.parametrize(
    ("key", "value"), [("masks", 1), ("probability", 0), ("probability", 1), ("fill", "noise")]
)
def test_settings_out_of_range_are_refused(key: str, value: object) -> None:
    with pytest.raises(InputError, match=f"study: {key}: "):
        validate(METHODS["rise"], {"method": "rise", "classifier": "c", key: value}, "study")
