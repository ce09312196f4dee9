"""Losses of the sparse reconstruction autoencoder (Qi, Khorram, Li 2017, arXiv 1709.05360)."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

PullAway = Literal["features", "images"]

# Added to contributions, so that a feature that is 0 for a whole batch has a direction.
_SMALL = 1e-8


def faithfulness(scores: Tensor, wanted: Tensor) -> Tensor:
    """Compute the mean squared error of the scores: mean_i,c (yhat_ic - y_ic)^2.

    Parameters
    ----------
    scores, wanted : tensors (N, K')

    Raises
    ------
    ValueError
        If the shapes differ. Targets (N, 1, 1), say, would broadcast, so that the best score is
        the mean of all targets.
    """
    _require_same(scores, wanted)
    return ((scores - wanted) ** 2).mean()


def sparse_reconstruction(found: Tensor, wanted: Tensor, q: float) -> Tensor:
    """Compute mean_k log(1 + q mean_i (Zt_ik - Z_ik)^2), over units k and items i.

    The logarithm lets some units be reconstructed badly for the sake of the others: a penalty that
    is sparse in the units' errors. For small q it is q times the mean squared error.

    Parameters
    ----------
    found, wanted : tensors (N, D)
        Reconstruction Zt and activations Z.
    q : float

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    _require_same(found, wanted)
    return torch.log1p(q * ((found - wanted) ** 2).mean(0)).mean()


def pull_away(contributions: Tensor, over: PullAway) -> Tensor:
    """Compute the pull-away term: the mean of squared cosines over pairs.

    Over features (the paper's): mean over l != l' of cos^2(a_l, a_l'), where a_l, in R^N, are
    feature l's contributions over the batch. Over images (the published code's): the same for the
    contributions of pairs of images, in R^n; with M images this cannot fall below
    (M - n) / (n (M - 1)).

    Parameters
    ----------
    contributions : tensor (N, n), or (N, K', n) for several classes
        With several classes, the mean over the classes is taken.
    over : {"features", "images"}

    Returns
    -------
    tensor ()
        Between 0 and 1; 0 if there is only one feature, or one image.
    """
    a = contributions.unsqueeze(1) if contributions.ndim == 2 else contributions
    rows = a.permute(1, 2, 0) if over == "features" else a.permute(1, 0, 2)
    directions = functional.normalize(rows + _SMALL, dim=2)
    count, length = directions.shape[1:]
    if count > length:
        # The squared cosines of all pairs have the same sum as those of the transpose, which has
        # fewer elements: with thousands of images, their pairs do not fit into memory.
        products = directions.transpose(1, 2) @ directions
        own = directions.square().sum(2).square().sum(1)
        total = products.square().sum((1, 2)) - own
    else:
        cosines = directions @ directions.transpose(1, 2)
        off = cosines - torch.diag_embed(torch.diagonal(cosines, dim1=1, dim2=2))
        total = off.square().sum((1, 2))
    return total.mean() / max(1, count * (count - 1))


def _require_same(found: Tensor, wanted: Tensor) -> None:
    if found.shape != wanted.shape or found.ndim != 2:
        raise ValueError(
            f"shapes {tuple(found.shape)} and {tuple(wanted.shape)} must be the same, (items, "
            "values): others would broadcast"
        )
