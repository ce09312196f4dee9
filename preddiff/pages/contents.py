"""Contents of a page: items, explanations and maps of a study, read from its stores."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preddiff.datasets.items import Items
from preddiff.errors import InputError
from preddiff.evaluation.predictions import TOP, read_predictions
from preddiff.pages.packing import Packed, pack_errors, pack_intensities, pack_relevance
from preddiff.storage.inputs import Inputs
from preddiff.storage.maps import open_relevance
from preddiff.storage.relevance import window_side
from preddiff.storage.stores import PROVENANCE, array, attributes, open_dataset
from preddiff.targets import Target

# Predicted classes that are listed beside an item.
_LISTED = 3
# Percentile of positive intensities of a scan that is shown white.
_WHITE = 99.5
_WHAT = {
    "probability": "weight of evidence",
    "logit": "difference of the logit",
    "value": "difference of the predicted value",
    "map": "difference of the activation",
}
# What errors of maps are, if a store has several.
_ERRORS = {
    "error": "error (draws and interpolation)",
    "stderr": "standard error",
}


class Explanation:
    """The maps of one relevance store.

    Parameters
    ----------
    path : Path

    Raises
    ------
    InputError
        If there is no such store, or it is not complete.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.stem
        self._group = open_relevance(path)
        about = attributes(self._group)
        self._about = about
        self.inputs = Inputs.of(path, about)
        dataset = open_dataset(path)
        self._rows = {str(name): row for row, name in enumerate(dataset["item"].values)}
        self.targets = [str(name) for name in dataset["target"].values]
        self._classes = dataset["class_number"].values
        self._predictions = dataset["prediction"].values
        self._error = next((name for name in _ERRORS if name in self._group), None)

    @property
    def items(self) -> list[str]:
        """Names of the items that are explained."""
        return list(self._rows)

    def about(self) -> dict[str, Any]:
        """Describe the explanation for the page."""
        about, provenance = self._about, self._about[PROVENANCE]
        k = window_side(about)
        method = provenance.get("method")
        parts = {
            "method": method if isinstance(method, str) else None,
            "sampler": provenance.get("sampler") if k else None,
            "k": k,
            "l": provenance.get("l") if k else None,
            "estimator": provenance.get("estimator") if k else None,
            "draws": provenance.get("samples") if k else None,
            "accuracy": provenance.get("accuracy"),
        }
        return {
            "name": self.name,
            "classifier": self.inputs.classifier.name,
            "settings": {key: value for key, value in parts.items() if value is not None},
            "corner": list(about["corner"]),
            "space": list(about["space"]),
            "error": _ERRORS.get(self._error or ""),
            "targets": [self._about_target(text, k) for text in self.targets],
        }

    def _about_target(self, text: str, k: int | None) -> dict[str, Any]:
        target = Target.parse(text)
        is_of_class = target.kind in ("probability", "logit")
        # Attributions and masks of other methods are not evidence in bits.
        shows_evidence = k is not None
        return {
            "name": text,
            "what": _WHAT[target.kind] if shows_evidence else "relevance",
            # Values and activations have units that nobody knows.
            "unit": target.unit if shows_evidence and is_of_class else "",
            "has_sides": shows_evidence and is_of_class,
        }

    def maps(self, item: str) -> list[dict[str, Any]] | None:
        """Read the maps of an item, one per target; None if it is not explained.

        Returns
        -------
        list of dict
            `relevance` and `error` (Packed, the latter None if it is zero everywhere), and
            `label`, which says what is explained: the class and the target's value.
        """
        row = self._rows.get(item)
        if row is None:
            return None
        relevance = np.asarray(array(self._group, "relevance")[row])
        found = None if self._error is None else np.asarray(array(self._group, self._error)[row])
        return [
            {
                "relevance": pack_relevance(relevance[number]),
                "error": None if found is None else _errors(found[number]),
                "label": self._label(row, number),
            }
            for number in range(len(self.targets))
        ]

    def _label(self, row: int, number: int) -> str:
        """Say what a map of an item explains, with the value that is explained."""
        target = Target.parse(self.targets[number])
        value = float(self._predictions[row, number])
        if target.kind == "map":
            return f"{target.layer}, map {target.number}: {value:.3g}"
        classes = self._about["classes"]
        place = int(self._classes[row, number])
        name = str(classes[place]) if 0 <= place < len(classes) else target.label
        rank = f"{target.label}: " if target.label != name else ""
        return f"{rank}{target.kind} of {name} = {value:.3g}"


def _errors(values: NDArray[np.floating]) -> Packed | None:
    """Pack errors; None if maps are exact."""
    return pack_errors(values) if np.nan_to_num(values).any() else None


class Contents:
    """Items of one data store, and the explanations of them.

    Parameters
    ----------
    study : str
        Name of the study.
    explanations : sequence of Explanation
        Of items of the same data store.
    """

    def __init__(self, study: str, explanations: Sequence[Explanation]) -> None:
        self.study = study
        self.explanations = list(explanations)
        self.data = explanations[0].inputs.data
        self.items = Items(self.data)

    @property
    def are_volumes(self) -> bool:
        """Whether the items are volumes rather than images."""
        return self.items.are_volumes

    def chosen(self, count: int | None = None) -> list[str]:
        """Choose items: those that most explanations share, of all groups in turn.

        Parameters
        ----------
        count : int, optional
            How many; by default all that are explained.

        Returns
        -------
        list of str
            In the order in which they are chosen.
        """
        explained: dict[str, int] = {}
        for one in self.explanations:
            for name in one.items:
                explained[name] = explained.get(name, 0) + 1
        groups: dict[str, list[str]] = {}
        for name, group in zip(self.items.names, self.items.groups, strict=True):
            if name in explained:
                groups.setdefault(group, []).append(name)
        for names in groups.values():
            names.sort(key=lambda name: -explained[name])
        turns = [name for turn in zip_longest(*groups.values()) for name in turn if name]
        turns.sort(key=lambda name: -explained[name])
        return turns[:count]

    def about(self) -> dict[str, Any]:
        """Describe the study for the page."""
        items = self.items
        return {
            "study": self.study,
            "dataset": self.data.stem,
            "kind": "volumes" if items.are_volumes else "images",
            "space": list(items.space),
            "affine": items.affine.tolist() if items.are_volumes else None,
            "classes": list(items.classes),
            "has_truth": "truth" in items.group,
            "explanations": [one.about() for one in self.explanations],
        }

    def item(self, name: str) -> dict[str, Any]:
        """Read an item and its maps.

        Returns
        -------
        dict
            `name`, `group`, `facts` (lines of text on its value and its predictions), `picture`
            (Packed; of volumes the first channel), `white` (intensity that is shown white),
            `truth` (Packed; 1 in the known lesions or objects; None if there are none), and `maps`,
            a list of maps for each explanation.
        """
        number = self.items.number(name)
        if self.are_volumes:
            values: NDArray[np.number[Any]] = self.items.read([number])[0, 0]
            positive = values[values > 0]
            white = float(np.percentile(positive, _WHITE)) if positive.size else 1.0
        else:
            stored = self.items.read_stored([number])[0]
            # Bytes as they are stored; times the scale, pixels are from 0 to 1.
            are_bytes = stored.dtype == np.uint8
            values = stored if are_bytes else self.items.read([number])[0]
            white = 1 / self.items.scale if are_bytes else 1.0
        truth = self.items.truth(number)
        return {
            "name": name,
            "group": self.items.groups[number],
            "facts": self._facts(name),
            "picture": pack_intensities(values),
            "white": white,
            "truth": None if truth is None else pack_intensities(truth.astype(np.uint8)),
            "maps": [one.maps(name) for one in self.explanations],
        }

    def _facts(self, name: str) -> list[str]:
        """List what is known of an item: its value, and what networks predict."""
        facts = []
        if self.items.value_name is not None:
            value = float(self._values[self.items.number(name)])
            if np.isfinite(value):
                facts.append(f"{self.items.value_name}: {value:.4g}")
        for classifier, rows in self._predictions.items():
            listed = _predicted(rows.get(name))
            facts += [f"{classifier} predicts {listed}"] if listed else []
        return facts

    @cached_property
    def _values(self) -> NDArray[np.float64]:
        return self.items.values

    @cached_property
    def _predictions(self) -> dict[str, Mapping[str, Mapping[str, Any]]]:
        """Rows of the tables of predictions, by classifier and item."""
        tables = {
            one.inputs.classifier.name: one.inputs.predictions
            for one in self.explanations
            if one.inputs.predictions is not None
        }
        return {
            name: {str(item): dict(row) for item, row in read_predictions(path).iterrows()}
            for name, path in sorted(tables.items())
        }


def _predicted(row: Mapping[str, Any] | None) -> str:
    """List the top classes of a row of predictions, or the value; "" if there are none."""
    if row is None:
        return ""
    if "predicted" in row:
        return f"{float(row['predicted']):.4g}"
    return ", ".join(
        f"{row[f'top{rank}_name']} {float(row[f'top{rank}_probability']):.1%}"
        for rank in range(1, min(TOP, _LISTED) + 1)
        if f"top{rank}_name" in row
    )


def contents_of(
    results: Path, data: str | None = None, explanations: Sequence[str] | None = None
) -> Contents:
    """Find what a page of a study shows.

    Parameters
    ----------
    results : Path
        Folder of a study, `results/<study>`.
    data : str, optional
        Name of a data store; may be left out if the explanations have only one.
    explanations : sequence of str, optional
        Names of relevance stores; by default all of these data that are complete.

    Raises
    ------
    InputError
        If there are none, or it has to be said which data are meant.
    """
    by_data: dict[str, list[Explanation]] = {}
    for path in _stores(results, explanations):
        try:
            one = Explanation(path)
        except InputError:
            # One that is not complete is left out, unless it was asked for.
            if explanations is not None:
                raise
            continue
        by_data.setdefault(one.inputs.data.stem, []).append(one)
    if not by_data:
        raise InputError(f"{results}: no explanation of this study is complete; run snakemake")
    if data is None and len(by_data) > 1:
        raise InputError(
            f"{results}: there are explanations of several datasets: choose one by --data "
            f"{' or '.join(sorted(by_data))}"
        )
    name = data or next(iter(by_data))
    if name not in by_data:
        raise InputError(
            f"{results}: no complete explanation of data '{name}'; there are some of "
            f"{', '.join(sorted(by_data))}"
        )
    return Contents(results.resolve().name, by_data[name])


def data_names(results: Path) -> list[str]:
    """Names of the data stores that a study has complete explanations of."""
    found = set()
    for path in _stores(results, None):
        try:
            found.add(Explanation(path).inputs.data.stem)
        except InputError:
            continue
    return sorted(found)


def _stores(results: Path, explanations: Sequence[str] | None) -> Iterator[Path]:
    """Relevance stores of a study, all or some by name."""
    folder = results / "relevance"
    if explanations is not None:
        yield from (folder / f"{name}.zarr" for name in explanations)
    elif not folder.is_dir():
        raise InputError(
            f"{results}: no relevance of a study is here; give its folder, such as results/phantom"
        )
    else:
        # Names of temporary folders begin with a dot.
        yield from sorted(folder.glob("[!.]*.zarr"))
