"""Measures of explanations by a few features: of an explanation network, and of NMF and PCA."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from preddiff.errors import InputError

Array = NDArray[np.floating[Any]]

# Share of the positive contributions that the significant features carry.
SIGNIFICANT = 0.9
# Name of several classes together, in the column `class`.
ALL = "all"


@dataclass(frozen=True)
class System:
    """What a system of n features says of N items.

    Attributes
    ----------
    features : float array (N, n)
    contributions : float array (N, K', n)
        What each feature adds to the score of each class.
    scores : float array (N, K')
        Their sums, and a bias.
    reconstruction : float array (N, D)
        Of the activations, from the features.
    """

    features: Array
    contributions: Array
    scores: Array
    reconstruction: Array


@dataclass(frozen=True)
class Truth:
    """What the features of N items should explain.

    Attributes
    ----------
    activations : float array (N, D)
    logits : float array (N, K)
        Of all classes of the network.
    classes : sequence of int
        Numbers of the K' classes whose scores are explained.
    own : bool array (N, K')
        Whether an item is of a class.
    """

    activations: Array
    logits: Array
    classes: Sequence[int]
    own: NDArray[np.bool_]

    @property
    def scores(self) -> Array:
        """Scores (N, K') of the explained classes."""
        return self.logits[:, list(self.classes)]


def score_error(scores: Array, wanted: Array) -> Array:
    """Compute the root mean squared error of each class's score, over items.

    Parameters
    ----------
    scores, wanted : float arrays (N, K')

    Returns
    -------
    float64 array (K',)
    """
    _require_same(scores, wanted)
    return np.sqrt(((scores - wanted) ** 2).mean(axis=0, dtype=np.float64))


def agreement(logits: Array, scores: Array, classes: Sequence[int]) -> float:
    """Compute the share of items whose top class stays when scores of classes are replaced.

    Parameters
    ----------
    logits : float array (N, K)
    scores : float array (N, K')
        Replace the logits of `classes`.
    classes : sequence of int
    """
    replaced = np.array(logits, dtype=np.float64)
    _require_same(scores, replaced[:, list(classes)])
    replaced[:, list(classes)] = scores
    return float((replaced.argmax(axis=1) == logits.argmax(axis=1)).mean())


def reconstruction_error(found: Array, wanted: Array) -> float:
    """Compute the root mean squared error of activations, relative to their standard deviation.

    The deviation is taken from each unit's mean, over all units together, so that the means alone
    have an error of 1.

    Parameters
    ----------
    found, wanted : float arrays (N, D)
    """
    _require_same(found, wanted)
    error = ((found - wanted) ** 2).mean(dtype=np.float64)
    spread = wanted.var(axis=0, dtype=np.float64).mean()
    return float(np.sqrt(error / spread)) if spread > 0 else float("nan")


def mean_correlation(contributions: Array) -> float:
    """Compute the mean absolute correlation of the contributions of pairs of features, over items.

    0 if no two features vary together. Features that do not vary have no correlation and are left
    out; NaN if fewer than two vary.

    Parameters
    ----------
    contributions : float array (N, n)
    """
    centred = contributions - contributions.mean(axis=0, dtype=np.float64)
    norms = np.linalg.norm(centred, axis=0)
    varies = norms > 1e-9 * np.abs(contributions).max(initial=1e-300) * np.sqrt(len(centred))
    if varies.sum() < 2:
        return float("nan")
    directions = centred[:, varies] / norms[varies]
    correlations = np.abs(directions.T @ directions)
    return float(correlations[np.triu_indices(int(varies.sum()), 1)].mean())


def significant_features(contributions: Array) -> NDArray[np.bool_]:
    """Find the smallest set of features with at least 90% of the positive contributions' sum.

    Parameters
    ----------
    contributions : float array (..., n)

    Returns
    -------
    bool array (..., n)
        Of equal contributions, those of smaller numbers come first. All False where no
        contribution is positive.
    """
    positive = np.maximum(np.asarray(contributions, dtype=np.float64), 0)
    order = np.argsort(-positive, axis=-1, kind="stable")
    ranked = np.take_along_axis(positive, order, axis=-1)
    before = np.cumsum(ranked, axis=-1) - ranked
    wanted = SIGNIFICANT * ranked.sum(axis=-1, keepdims=True)
    # Rounding must not add a feature to a set that carries exactly the wanted share.
    chosen = (before < wanted * (1 - 1e-12)) & (ranked > 0)
    found = np.zeros(positive.shape, dtype=bool)
    np.put_along_axis(found, order, chosen, axis=-1)
    return found


def locality(mass: Array) -> Array:
    """Compute how far maps are spread over parts: the normalised entropy of their mass.

    Our definition: for the shares p_j of a map's mass in J parts (boxes, superpixels or regions),
    - sum_j p_j log p_j / log J. It is 0 if all mass is in one part, and 1 if it is spread evenly.

    Parameters
    ----------
    mass : float array (..., parts)
        Of each map in each part; not negative.

    Returns
    -------
    float64 array (...)
        NaN for maps without mass.

    Raises
    ------
    InputError
        If mass is negative, NaN or infinite, or there are fewer than two parts.
    """
    if mass.shape[-1] < 2:
        raise InputError("locality needs at least two parts")
    if not np.isfinite(mass).all() or (mass < 0).any():
        raise InputError("locality needs masses that are finite and not negative")
    total = mass.sum(axis=-1, keepdims=True, dtype=np.float64)
    shares = np.divide(mass, total, out=np.full(mass.shape, np.nan), where=total > 0)
    logs = np.log(shares, out=np.zeros(mass.shape), where=shares > 0)
    # Adding 0 turns -0 into 0.
    return np.asarray(-(shares * logs).sum(axis=-1) / np.log(mass.shape[-1]) + 0.0)


def baseline(kind: str, activations: Array, scores: Array, features: int, seed: int) -> "Baseline":
    """Fit a decomposition of activations, and a linear regression of the scores on its features.

    Parameters
    ----------
    kind : {"nmf", "pca"}
        Non-negative matrix factorisation or principal component analysis of scikit-learn.
    activations : float array (N, D)
    scores : float array (N, K')
    features : int
    seed : int

    Raises
    ------
    InputError
        If there are fewer activations, or items, than features.
    """
    # Importing scikit-learn takes a second.
    from sklearn.decomposition import NMF, PCA

    if min(activations.shape) < features:
        raise InputError(
            f"{features} features need as many activations and items; there are "
            f"{activations.shape[1]} and {activations.shape[0]}"
        )
    model = (
        NMF(features, init="nndsvda", max_iter=2000, random_state=seed)
        if kind == "nmf"
        else PCA(features, random_state=seed)
    )
    found = model.fit_transform(activations.astype(np.float64))
    design = np.column_stack([found, np.ones(len(found))])
    solution, *_ = np.linalg.lstsq(design, scores.astype(np.float64), rcond=None)
    return Baseline(model, solution[:-1].T, solution[-1])


@dataclass(frozen=True)
class Baseline:
    """A fitted decomposition, and a linear regression on its features.

    Attributes
    ----------
    model : sklearn's decomposition
    weights : float64 array (K', n)
    bias : float64 array (K',)
    """

    model: Any
    weights: NDArray[np.float64]
    bias: NDArray[np.float64]

    def __call__(self, activations: Array) -> System:
        """Explain the scores of items by their activations (N, D)."""
        features = self.model.transform(activations.astype(np.float64))
        contributions = features[:, None, :] * self.weights
        scores = contributions.sum(axis=2) + self.bias
        return System(features, contributions, scores, self.model.inverse_transform(features))


def measure(
    system: System, truth: Truth, names: Sequence[str], mass: Array | None = None
) -> pd.DataFrame:
    """Measure how well a system of features explains scores.

    Parameters
    ----------
    system : System
    truth : Truth
    names : sequence of str
        Names of the explained classes.
    mass : float array (items, n, parts), optional
        Of each feature's map of some items in each part, for `locality`.

    Returns
    -------
    DataFrame, one row per measure and class
        class : name of the class; `all` for measures of all classes together.
        measure :
            rmse : error of the score; rmse_relative : the same in standard deviations of the score.
            agreement : share of items whose top class stays when this class's score is replaced;
            for `all`, those of all explained classes together.
            orthogonality : mean absolute correlation of contributions over all items (smaller is
            more orthogonal); orthogonality_own : over the items of the class.
            significant_features : mean number over the items of the class.
            features : number of features that are not constant.
            reconstruction : relative error of the activations.
            locality : mean normalised entropy of the features' maps.
        value : NaN where it is not defined.
        items : number of items that it is computed from.
    """
    error = score_error(system.scores, truth.scores)
    spread = truth.scores.std(axis=0, dtype=np.float64)
    rows: list[tuple[str, str, float, int]] = []
    count = len(truth.logits)
    for c, name in enumerate(names):
        contributions, own = system.contributions[:, c], truth.own[:, c]
        counts = significant_features(contributions[own]).sum(axis=1)
        one = [truth.classes[c]]
        rows += [
            (name, "rmse", float(error[c]), count),
            (name, "rmse_relative", float(error[c] / spread[c]) if spread[c] else np.nan, count),
            (name, "agreement", agreement(truth.logits, system.scores[:, [c]], one), count),
            (name, "orthogonality", mean_correlation(contributions), count),
            (name, "orthogonality_own", _or_nan(mean_correlation, contributions[own]), own.sum()),
            (name, "significant_features", _or_nan(np.mean, counts), own.sum()),
        ]
    error_of_activations = reconstruction_error(system.reconstruction, truth.activations)
    varying = int((np.ptp(system.features, axis=0) > 0).sum())
    rows += [
        (ALL, "agreement", agreement(truth.logits, system.scores, truth.classes), count),
        (ALL, "reconstruction", error_of_activations, count),
        (ALL, "features", float(varying), count),
    ]
    if mass is not None:
        rows.append((ALL, "locality", float(np.nanmean(locality(mass))), len(mass)))
    return pd.DataFrame(rows, columns=["class", "measure", "value", "items"])


def compare_systems(
    systems: Mapping[str, System],
    truth: Truth,
    names: Sequence[str],
    masses: Mapping[str, Array] | None = None,
) -> pd.DataFrame:
    """Measure several systems; rows as of `measure`, with the name in the column `system`."""
    tables = []
    for name, system in systems.items():
        table = measure(system, truth, names, (masses or {}).get(name))
        table.insert(0, "system", name)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _or_nan(function: Any, values: Array | NDArray[np.integer]) -> float:
    return float(function(values)) if len(values) else float("nan")


def _require_same(found: Array, wanted: Array) -> None:
    if found.shape != wanted.shape or found.ndim != 2:
        raise InputError(
            f"arrays {found.shape} and {wanted.shape} must have the same shape, (items, values)"
        )
