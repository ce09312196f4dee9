"""Paths and names of the results of a study: stores, classifiers and tables."""

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from preddiff.classifiers.base import ClassifierSettings
from preddiff.datasets.base import Geometry
from preddiff.datasets.slab import Slab
from preddiff.samplers.base import SamplerSettings
from preddiff.settings.study import Study

Key = tuple[str, ...]

# In names of tables, and as an option: models of folds, which have not seen their items.
HELD_OUT = "held-out"


def distinct_names(keys: Iterable[Key]) -> dict[Key, str]:
    """Join the parts of each key to a file name, such that names are distinct.

    Parts are joined by `-`. If that gives two keys the same name, such as ("a-b", "c") and
    ("a", "b-c"), their parts are joined by `.`, which names in a configuration cannot contain.

    Parameters
    ----------
    keys : iterable of tuple of str
        Parts without `.`.

    Returns
    -------
    dict of tuple to str
    """
    chosen = list(dict.fromkeys(keys))
    joined = ["-".join(key) for key in chosen]
    return {
        key: name if joined.count(name) == 1 else ".".join(key)
        for key, name in zip(chosen, joined, strict=True)
    }


def trackable(path: Path) -> bool:
    """Whether Snakemake can track a file: it interprets braces in names as wildcards."""
    return not {"{", "}"}.intersection(str(path))


def pattern(names: Iterable[str]) -> str:
    """Return a regular expression that matches some names; nothing if there are none."""
    return "|".join(name.replace(".", r"\.") for name in names) or "(?!)"


class Paths:
    """Paths of the results of a study.

    Parameters
    ----------
    study : Study

    Attributes
    ----------
    results : str
        Folder of the study's results.
    """

    def __init__(self, study: Study) -> None:
        self.study = study
        self.results = f"results/{study.study}"
        self._geometries: dict[str, Geometry | None] = {}

    def store(self, kind: str, name: str) -> str:
        """Metadata file of a store, which Snakemake tracks for stores that a single job writes."""
        return f"{self.results}/{kind}/{name}.zarr/zarr.json"

    def classifier_file(self, classifier: str) -> str:
        """Description of a classifier, the last file of it that is written."""
        return f"{self.results}/classifiers/{classifier}/classifier.json"

    def table(self, kind: str, name: str) -> str:
        """Path of a table."""
        return f"{self.results}/tables/{kind}-{name}.tsv"

    def classifier_of(self, explanation: str) -> ClassifierSettings:
        """Classifier of an explanation."""
        return self.study.classifiers[self.study.explanations[explanation].classifier]

    def sampler_of(self, explanation: str) -> SamplerSettings:
        """Sampler of an explanation that redraws windows."""
        sampler = self.study.sampler_of(self.study.explanations[explanation])
        assert sampler is not None
        return sampler

    def classifier_file_of(self, explanation: str) -> str:
        """Description of an explanation's classifier."""
        return self.classifier_file(self.study.explanations[explanation].classifier)

    def geometry(self, classifier: str) -> Geometry:
        """How images are resized and cropped for a classifier.

        Raises
        ------
        InputError
            If that depends on pretrained weights that are unknown.
        """
        if classifier not in self._geometries:
            self._geometries[classifier] = self.study.classifiers[classifier].geometry
        return self._geometries[classifier] or Geometry(resize=None, crop=None)

    def data_key(self, dataset: str, classifier: str) -> Key:
        """Parts of the name of a data store; images have one store per size."""
        if not self.study.datasets[dataset].needs_geometry:
            return (dataset,)
        geometry = self.geometry(classifier)
        return (dataset, str(geometry.resize or "as-is"), str(geometry.crop))

    @cached_property
    def _data_names(self) -> dict[Key, str]:
        keys: list[Key] = [
            (name,) for name, one in self.study.datasets.items() if not one.needs_geometry
        ]
        for one in self.study.explanations.values():
            for dataset in (self.study.explained_dataset(one), self.study.sampled_dataset(one)):
                keys.append(self.data_key(dataset, one.classifier))
        for name, classifier in self.study.classifiers.items():
            if classifier.training_dataset is not None:
                keys.append(self.data_key(classifier.training_dataset, name))
        return distinct_names(keys)

    @cached_property
    def image_stores(self) -> dict[str, Key]:
        """Stores of resized and cropped images, with the parts of their names."""
        return {name: key for key, name in self._data_names.items() if len(key) > 1}

    def data(self, dataset: str, classifier: str) -> str:
        """Data store of a dataset for a classifier."""
        return self.store("data", self._data_names[self.data_key(dataset, classifier)])

    def data_of(self, explanation: str) -> str:
        """Data store of the items that are explained."""
        one = self.study.explanations[explanation]
        return self.data(self.study.explained_dataset(one), one.classifier)

    def sampled_data_of(self, explanation: str) -> str:
        """Data store that provides patches and donors for an explanation's sampler."""
        one = self.study.explanations[explanation]
        return self.data(self.study.sampled_dataset(one), one.classifier)

    def gaussian_key(self, explanation: str) -> Key | None:
        """Parts of the name of the Gaussian that an explanation draws from, or None."""
        one = self.study.explanations[explanation]
        sampler = self.study.sampler_of(one)
        if sampler is None or sampler.gaussian is None:
            return None
        data = self.data_key(self.study.sampled_dataset(one), one.classifier)
        place: Key = ()
        if sampler.depends_on_location:
            slab = self.slab_of(explanation)
            place = (f"axis{slab.axis}", *map(str, slab.slices)) if slab.slices else ("whole",)
        return (*data, f"l{getattr(one, 'l', None)}", str(one.sampler_name), *place)

    def slab_of(self, explanation: str) -> Slab:
        """Slab of an explanation's classifier; the default if it has none."""
        classifier = self.classifier_of(explanation)
        return classifier.part(Slab) if isinstance(classifier, Slab) else Slab()

    @cached_property
    def _gaussian_names(self) -> dict[Key, str]:
        keys = (self.gaussian_key(name) for name in self.study.explanations)
        return distinct_names(key for key in keys if key is not None)

    def gaussian_of(self, explanation: str) -> str | None:
        """Name of the Gaussian that an explanation draws from; None if there is none."""
        key = self.gaussian_key(explanation)
        return None if key is None else self._gaussian_names[key]

    def gaussian_store(self, explanation: str) -> list[str]:
        """Store of the Gaussian that an explanation draws from; empty if there is none."""
        name = self.gaussian_of(explanation)
        return [] if name is None else [self.store("gaussians", name)]

    @cached_property
    def conditional(self) -> list[str]:
        """Explanations that draw from a Gaussian."""
        return [name for name in self.study.explanations if self.gaussian_key(name) is not None]

    @property
    def table_of_foretold(self) -> str:
        """Table of how much of each explanation's windows their surroundings foretell."""
        return f"{self.results}/tables/foretold.tsv"

    def foretold_arguments(self) -> list[str]:
        """Arguments of `foretold` for this table: name, side of windows and Gaussian of each."""
        found: list[str] = []
        for name in self.conditional:
            side = self.study.explanations[name].window_side
            (store,) = self.gaussian_store(name)
            found += ["--explanation", name, str(side), str(Path(store).parent)]
        return found

    @cached_property
    def gaussians(self) -> dict[str, str]:
        """Gaussians, each with one of the explanations that draw from it."""
        found: dict[str, str] = {}
        for explanation in self.study.explanations:
            name = self.gaussian_of(explanation)
            if name is not None:
                found.setdefault(name, explanation)
        return found

    @cached_property
    def predicted(self) -> dict[str, Key]:
        """Tables of predictions, with the dataset and the models of each; see `models_key`."""
        keys = [
            self.models_key(name)
            for name in self.study.explanations
            if self.classifier_of(name).is_network
        ]
        return {name: key for key, name in distinct_names(keys).items()}

    def models_key(self, explanation: str) -> Key:
        """Dataset and classifier of an explanation, and `HELD_OUT` if it is by models of folds."""
        one = self.study.explanations[explanation]
        by_fold: Key = (HELD_OUT,) if one.held_out else ()
        return (self.study.explained_dataset(one), one.classifier, *by_fold)

    def models_arguments(self, key: Key) -> list[str]:
        """Arguments that say by which models a subcommand sees items; see `models_key`."""
        return [f"--{HELD_OUT}"] if HELD_OUT in key[2:] else []

    def predictions_of(self, explanation: str) -> list[str]:
        """Table of predictions that targets of an explanation may need; empty if there is none."""
        if not self.classifier_of(explanation).ranks_classes:
            return []
        names = {key: name for name, key in self.predicted.items()}
        return [self.table("predictions", names[self.models_key(explanation)])]

    @cached_property
    def pages(self) -> dict[str, list[str]]:
        """Names of the data stores that have a page, with the explanations of their items."""
        found: dict[str, list[str]] = {}
        for name in self.study.explanations if self.study.page_items else ():
            found.setdefault(Path(self.data_of(name)).parent.stem, []).append(name)
        return found

    def inputs_of_page(self, data: str) -> list[str]:
        """Data and predictions that a page shows."""
        found = [self.store("data", data)]
        for name in self.pages[data]:
            found += self.predictions_of(name)
        return list(dict.fromkeys(found))
