"""Tables of a study: which there are, and which explanations each compares."""

from functools import cached_property
from pathlib import Path

from preddiff.paths import Key, Paths, distinct_names
from preddiff.targets import LAYER


class Tables(Paths):
    """Tables of a study.

    Parameters
    ----------
    study : Study
    """

    @cached_property
    def compared(self) -> dict[str, Key]:
        """Tables of deletion curves, with dataset and models of the compared explanations."""
        return {
            name: key
            for name, key in self.predicted.items()
            if self.study.classifiers[key[1]].has_probabilities
            and self._conditional(key)
            and any(map(self._is_of_a_class, self._of_models(key)))
        }

    def _is_of_a_class(self, explanation: str) -> bool:
        """Whether a target of an explanation is a probability or logit, as tables need."""
        one = self.study.explanations[explanation]
        kinds = {text.partition(":")[0] for text in one.targets or [one.default_target]}
        return not kinds <= {LAYER, "map", "value"}

    def _of_models(self, key: Key) -> list[str]:
        """Explanations of the same items by the same models."""
        return [name for name in self.study.explanations if self.models_key(name) == key]

    def _conditional(self, key: Key) -> str | None:
        """First explanation with a Gaussian; its windows and Gaussian are used for all."""
        return next((name for name in self._of_models(key) if self.gaussian_key(name)), None)

    def compared_explanations(self, deletion: str) -> list[str]:
        """Explanations of the same items by the same models."""
        return self._of_models(self.compared[deletion])

    def filling_explanation(self, deletion: str) -> str:
        """Explanation whose Gaussian is used to fill deleted windows."""
        found = self._conditional(self.compared[deletion])
        assert found is not None
        return found

    def localised(self, classifier: str) -> list[str]:
        """Explanations of a classifier whose training cohort of volumes has truth masks."""
        dataset = self.study.classifiers[classifier].training_dataset
        if dataset is None:
            return []
        cohort = self.study.datasets[dataset]
        if cohort.dimensions != 3 or not cohort.has_truth:
            return []
        return [
            name
            for name, one in self.study.explanations.items()
            if one.classifier == classifier and self.study.explained_dataset(one) == dataset
        ]

    @cached_property
    def localising(self) -> list[str]:
        """Classifiers with a table of how well maps find the lesions of volumes."""
        return [name for name in self.study.classifiers if self.localised(name)]

    @cached_property
    def objects(self) -> dict[str, Key]:
        """Tables of how well maps find objects in images: dataset and models of each."""
        keys = [
            self.models_key(name)
            for name, one in self.study.explanations.items()
            if self._has_objects(self.study.explained_dataset(one)) and self._is_of_a_class(name)
        ]
        # Both kinds of tables are in one folder.
        names = distinct_names([*((name,) for name in self.localising), *keys])
        return {name: key for key, name in names.items() if len(key) > 1}

    def _has_objects(self, dataset: str) -> bool:
        one = self.study.datasets[dataset]
        return one.dimensions == 2 and (one.has_boxes or one.has_truth)

    def explanations_of_objects(self, objects: str) -> list[str]:
        """Explanations of the same annotated images by the same models."""
        # Objects are of classes, not of feature maps or x-features.
        return [n for n in self._of_models(self.objects[objects]) if self._is_of_a_class(n)]

    def data_of_objects(self, objects: str) -> str:
        """Data store of the annotated images."""
        return self.data(*self.objects[objects][:2])

    @property
    def explaining(self) -> list[str]:
        """Names of the classifiers that explain another network of the study."""
        return [n for n, one in self.study.classifiers.items() if one.base_classifier is not None]

    def tables(self) -> list[str]:
        """Tables that sum up results, in the order in which the findings tell of them."""
        trained = [name for name, one in self.study.classifiers.items() if one.is_trained]
        found = [f"{self.results}/classifiers/{name}/cv.json" for name in trained]
        found += [f"{self.results}/tables/predictions-{name}.json" for name in self.predicted]
        for kind, names in (
            ("localisation", [*self.localising, *self.objects]),
            ("deletion", self.compared),
        ):
            found += [self.table(kind, f"{name}-summary") for name in names]
        found += [self.table("concepts", name) for name in self.explaining]
        return found + ([self.table_of_foretold] if self.conditional else [])

    @property
    def findings(self) -> str:
        """File that says what was asked and found."""
        return f"{self.results}/findings.rst"

    @property
    def text_of_findings(self) -> str:
        """What was asked and found; empty as long as it is not known."""
        file = Path(self.findings)
        return file.read_text() if file.exists() else ""
