"""Plan of a study: its stores and files, the shards and resources of its jobs, and their inputs.

The rules of the workflow use a `Plan`. This module neither runs stages nor depends on Snakemake.
"""

import math
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

from preddiff.classifiers.base import CLASSIFIERS, ClassifierSettings
from preddiff.datasets.base import Geometry
from preddiff.methods.prediction_difference import (
    ExpectationSettings,
    WindowSettings,
    code_of_expectations,
)
from preddiff.methods.selection import code_of_maps
from preddiff.paths import trackable
from preddiff.settings.options import write_settings
from preddiff.storage.provenance import digest_code
from preddiff.tables import Tables

# Forward passes per second of a GPU that are assumed, of images and of volumes; jobs take about one
# hour, and have at most so many items.
PASSES_PER_SECOND = {2: 50_000, 3: 1000}
ITEMS_PER_JOB = 1000
SIDE_OF_VOLUMES = 96
ITEMS_PER_JOB_EXACT_FORM = 200
SECONDS_PER_JOB = 3600
# Least time for relevance, and speed at which the evidence of windows is interpolated for it.
MINUTES_OF_RELEVANCE = 60
WINDOWS_PER_SECOND = 100_000

# Number of cores for a network, if there are as many.
NETWORK_THREADS = 4


def growing(first: int) -> Callable[[Any, int], int]:
    """Return a resource that grows with each attempt to run a job."""
    return lambda wildcards, attempt: first * attempt


def code_of(command: str, *roots: str) -> str:
    """Compute a digest of the code that the results of a subcommand depend on.

    Parameters
    ----------
    command : str
        Name of the subcommand, such as `prepare-images`.
    *roots : str
        Definitions that it finds through registries, which its own code does not refer to.
    """
    return digest_code(f"preddiff.stages.{command.replace('-', '_')}:run", *roots)


def root_of(kind: object) -> str:
    """Return the root of `digest_code` for settings of some kind: their class."""
    cls = kind if isinstance(kind, type) else type(kind)
    return f"{cls.__module__}:{cls.__name__}"


class Plan(Tables):
    """Plan of a study.

    Parameters
    ----------
    study : Study
    """

    # Datasets

    def datasets_made_by(self, command: str) -> list[str]:
        """Names of the datasets whose stores a subcommand writes."""
        return [name for name, one in self.study.datasets.items() if one.command == command]

    def datasets_with_table_from(self, command: str) -> list[str]:
        """Names of the datasets whose tables a subcommand writes."""
        return [n for n, one in self.study.datasets.items() if one.table_command == command]

    def table_of(self, dataset: str) -> str:
        """Table of a dataset's items: the user's, or one that a rule writes."""
        one = self.study.datasets[dataset]
        written = f"{self.results}/{one.table_path.format(dataset=dataset)}"
        return str(one.given_table or written)

    def table_settings(self, dataset: str) -> str:
        """Settings of the subcommand that writes a dataset's table."""
        return write_settings(self.study.datasets[dataset].table_settings)

    def preparation(self, dataset: str) -> str:
        """Settings of the subcommand that writes a dataset's store."""
        return write_settings(self.study.datasets[dataset].preparation)

    def image_files(self, data: str) -> list[str]:
        """Files that a store of images depends on."""
        dataset = self.image_stores[data][0]
        is_written = self.study.datasets[dataset].table_command is not None
        return [*([self.table_of(dataset)] if is_written else []), *self.files_of(dataset)]

    def files_of(self, dataset: str) -> list[str]:
        """Files that a data store depends on, if they exist and Snakemake can track them."""
        if dataset not in self._files:
            files = self.study.datasets[dataset].input_files()
            self._files[dataset] = [str(path) for path in files if trackable(path)]
        return self._files[dataset]

    @cached_property
    def _files(self) -> dict[str, list[str]]:
        return {}

    def image_settings(self, data: str) -> str:
        """Settings of `prepare-images`, for a store."""
        dataset, resize, crop = self.image_stores[data]
        geometry = Geometry(
            resize=None if resize == "as-is" else int(resize),
            crop=None if crop == "None" else int(crop),
        )
        table = Path(self.table_of(dataset))
        images = self.study.datasets[dataset].preparation_with(table)
        return write_settings(images=images, geometry=geometry)

    # Classifiers

    @property
    def classifier_kinds(self) -> list[type[ClassifierSettings]]:
        """A kind of classifiers for each subcommand that makes some; there is a rule for each."""
        return list({kind.command: kind for kind in CLASSIFIERS}.values())

    def classifiers(self, kind: type[ClassifierSettings]) -> list[str]:
        """Names of the classifiers that are made by the same subcommand as those of a kind."""
        classifiers = self.study.classifiers.items()
        return [name for name, one in classifiers if one.command == kind.command]

    def classifier_arguments(self, classifier: str) -> list[str]:
        """Arguments of the subcommand that makes a classifier, except the output folder."""
        one = self.study.classifiers[classifier]
        arguments = ["--settings", write_settings(one.stage_settings)]
        for data in self.training_data_of(classifier):
            arguments += ["--data", str(Path(data).parent)]
            if one.is_trained:
                arguments += ["--seed", str(self.study.seed)]
        for file in self.base_of(classifier):
            arguments += ["--classifier", str(Path(file).parent)]
        for weights in self.weights_of(classifier):
            arguments += ["--state-dict", weights]
        return arguments

    def classifier_inputs(self, classifier: str) -> list[str]:
        """User's files that a classifier depends on, if Snakemake can track them."""
        files = self.study.classifiers[classifier].input_files()
        return [str(path) for path in files if trackable(path)]

    def training_data_of(self, classifier: str) -> list[str]:
        """Data store that a classifier is trained on; empty if there is none."""
        dataset = self.study.classifiers[classifier].training_dataset
        return [] if dataset is None else [self.data(dataset, classifier)]

    def base_of(self, classifier: str) -> list[str]:
        """Description of the network that a classifier is made from; empty if there is none."""
        base = self.study.classifiers[classifier].base_classifier
        return [] if base is None else [self.classifier_file(base)]

    def weights_of(self, classifier: str) -> list[str]:
        """Weights that a rule downloads for a classifier; empty if there are none."""
        wanted = self.study.classifiers[classifier].weights_to_fetch
        return [] if wanted is None else [f"{self.results}/weights/{'-'.join(wanted)}.safetensors"]

    def code_of_classifier(self, classifier: str) -> str:
        """Digest of the code that makes a classifier."""
        one = self.study.classifiers[classifier]
        return code_of(one.command, root_of(one), *(one.code if one.base_classifier else ()))

    # Explanations

    @cached_property
    def redrawing(self) -> list[str]:
        """Explanations by methods that redraw windows, which have expectation stores."""
        return [n for n, one in self.study.explanations.items() if one.redraws_windows]

    @cached_property
    def mapped(self) -> list[str]:
        """Explanations by methods that compute maps directly."""
        return [n for n, one in self.study.explanations.items() if not one.redraws_windows]

    def expectation_settings(self, explanation: str) -> str:
        """Settings of `open`, for an explanation."""
        one = self.study.explanations[explanation]
        sampler = self.sampler_of(explanation)
        # The stage is given the data store, so it does not need the name of the dataset.
        sampler = sampler.model_copy(update={"dataset": None})
        windows = one.part(WindowSettings)
        return write_settings(ExpectationSettings(sampler=sampler, windows=windows))

    def open_arguments(self, explanation: str) -> list[str]:
        """Arguments of `open` for an explanation, except its settings."""
        arguments = self.map_arguments(explanation)
        arguments += ["--donors", str(Path(self.sampled_data_of(explanation)).parent)]
        for store in self.gaussian_store(explanation):
            arguments += ["--gaussian", str(Path(store).parent)]
        if self.study.keep_numbers_of is not None:
            arguments += ["--keep-numbers-of", self.study.keep_numbers_of]
        return arguments

    def map_arguments(self, explanation: str) -> list[str]:
        """Arguments of `open-maps` for an explanation, except its settings."""
        arguments = ["--data", str(Path(self.data_of(explanation)).parent)]
        arguments += ["--classifier", str(Path(self.classifier_file_of(explanation)).parent)]
        for table in self.predictions_of(explanation):
            arguments += ["--predictions", table]
        return arguments

    def sampler_files(self, explanation: str) -> list[str]:
        """User's files that a sampler depends on."""
        return [str(path) for path in self.sampler_of(explanation).input_files()]

    def method_files(self, explanation: str) -> list[str]:
        """User's files that a method depends on."""
        return [str(path) for path in self.study.explanations[explanation].input_files()]

    def batch_size_of(self, explanation: str) -> int:
        """Number of inputs per forward pass; 0 if it depends on the device."""
        return getattr(self.study.explanations[explanation], "batch_size", None) or 0

    def code_of_expectations(self, explanation: str) -> str:
        """Digest of the code that an explanation's expectations depend on."""
        one: Any = self.study.explanations[explanation]
        classifier, sampler = self.classifier_of(explanation), self.sampler_of(explanation)
        return code_of("open", *code_of_expectations(one, classifier, sampler))

    def map_settings(self, explanation: str) -> str:
        """Settings of `open-maps`, for an explanation."""
        one = self.study.explanations[explanation]
        # They do not change maps, and must not open the store again.
        return write_settings(one.model_copy(update={"items_per_job": None, "nifti": False}))

    def code_of_maps(self, explanation: str) -> str:
        """Digest of the code that an explanation's maps depend on."""
        roots = code_of_maps(self.study.explanations[explanation], self.classifier_of(explanation))
        return code_of("open-maps", *roots)

    def number_of_items(self, explanation: str) -> int:
        """Largest number of items that an explanation can have."""
        one = self.study.explanations[explanation]
        if isinstance(one.items, int):
            return one.items
        if one.items is not None:
            return len(one.items)
        return self._counts(self.study.explained_dataset(one))

    def _counts(self, dataset: str) -> int:
        """Number of items of a dataset; tables and folders are read once."""
        if dataset not in self._counted:
            self._counted[dataset] = self.study.datasets[dataset].number_of_items()
        return self._counted[dataset]

    @cached_property
    def _counted(self) -> dict[str, int]:
        return {}

    def items_per_job(self, explanation: str) -> int:
        """Number of items that one job explains."""
        one: Any = self.study.explanations[explanation]
        if one.items_per_job:
            return int(one.items_per_job)
        if not one.redraws_windows:
            return max(1, min(ITEMS_PER_JOB, int(SECONDS_PER_JOB / one.seconds_per_item)))
        if self.classifier_of(explanation).has_exact_form:
            return ITEMS_PER_JOB_EXACT_FORM
        space = self.space_of(explanation)
        passes = one.passes_of(space, self.classifier_of(explanation))
        per_job = 3600 * PASSES_PER_SECOND[len(space)]
        return max(1, min(ITEMS_PER_JOB, per_job // max(1, passes)))

    def space_of(self, explanation: str) -> tuple[int, ...]:
        """Spatial shape of the input of an explanation's classifier, if it is a network."""
        one = self.study.explanations[explanation]
        dataset = self.study.datasets[self.study.explained_dataset(one)]
        known = self.classifier_of(explanation).space or dataset.space
        side = self.geometry(one.classifier).crop
        if dataset.dimensions == 3:
            # Their size is only known from the data: assume that of brains at 2 mm.
            side = SIDE_OF_VOLUMES
        return known or (side or 1,) * dataset.dimensions

    def filled_store_of(self, explanation: str) -> str:
        """Store that the jobs of an explanation fill."""
        redraws = self.study.explanations[explanation].redraws_windows
        return f"{self.results}/{'expectations' if redraws else 'relevance'}/{explanation}.zarr"

    def relevance_of(self, explanation: str) -> list[str]:
        """Files that say that the relevance of an explanation is complete."""
        if self.study.explanations[explanation].redraws_windows:
            return [self.store("relevance", explanation)]
        return self.shards_of(explanation)

    def relevance_of_all(self, explanations: Iterable[str]) -> list[str]:
        """Files that say that the relevance of some explanations is complete."""
        return [file for name in explanations for file in self.relevance_of(name)]

    def relevance_stores(self, explanations: Iterable[str]) -> list[str]:
        """Relevance stores of some explanations."""
        return [f"{self.results}/relevance/{name}.zarr" for name in explanations]

    def shards_of(self, explanation: str) -> list[str]:
        """Markers of an explanation's shards, which are ranges of items, one per job."""
        step = self.items_per_job(explanation)
        folder = self.filled_store_of(explanation).removesuffix(".zarr") + ".done"
        return [
            f"{folder}/items-{first:05d}-{first + step:05d}.json"
            for first in range(0, self.number_of_items(explanation), step)
        ]

    def gpus_of(self, explanation: str) -> int:
        """Number of GPUs that one job of an explanation uses."""
        device = self.study.explanations[explanation].device
        return int(self.classifier_of(explanation).is_network and device != "cpu")

    def threads_of(self, explanation: str) -> int:
        """Number of cores that one job of an explanation uses."""
        return NETWORK_THREADS if self.classifier_of(explanation).is_network else 1

    def code_of_relevance(self, explanation: str) -> str:
        """Digest of the code that turns an explanation's expectations into relevance."""
        one: Any = self.study.explanations[explanation]
        is_refined = one.accuracy_for(self.classifier_of(explanation)) is not None
        # Stores of levels know their refinement.
        return code_of("relevance", *(["preddiff.refinement:Refinement"] if is_refined else []))

    def minutes_of_relevance(self, explanation: str) -> int:
        """Minutes that the relevance of an explanation may take."""
        one: Any = self.study.explanations[explanation]
        if one.accuracy_for(self.classifier_of(explanation)) is None:
            return MINUTES_OF_RELEVANCE
        windows = math.prod(self.space_of(explanation)) * len(one.targets or [None])
        seconds = windows * self.number_of_items(explanation) / WINDOWS_PER_SECOND
        return max(MINUTES_OF_RELEVANCE, math.ceil(seconds / 60))

    # Gaussians

    def gaussian_settings(self, gaussian: str) -> str:
        """Settings of `gaussian`, for a store."""
        explanation = self.gaussians[gaussian]
        sampler = self.sampler_of(explanation)
        assert sampler.gaussian is not None
        given: dict[str, Any] = {"gaussian": sampler.gaussian}
        if sampler.depends_on_location:
            given["slab"] = self.slab_of(explanation)
            given["margin"] = self._margin_of(gaussian)
        return write_settings(**given, l=getattr(self.study.explanations[explanation], "l", None))

    def _margin_of(self, gaussian: str) -> int:
        """How far beyond the slab windows are centred that are drawn from a Gaussian."""
        sides = [0]
        for name in self.redrawing:
            windows = self.study.explanations[name].part(WindowSettings)
            if self.gaussian_of(name) == gaussian and windows.goes_beyond_slab(
                self.sampler_of(name)
            ):
                sides.append(windows.k)
        return max(sides) // 2

    # Code of tables

    def code_of_predictions(self, predictions: str) -> str:
        """Digest of the code that a table of predictions depends on."""
        classifier = self.predicted[predictions][1]
        return code_of("predict", *self.study.classifiers[classifier].code)

    def code_of_deletion(self, deletion: str) -> str:
        """Digest of the code that deletion curves depend on."""
        classifier = self.compared[deletion][1]
        filling = self.sampler_of(self.filling_explanation(deletion))
        return code_of("deletion", root_of(filling), *self.study.classifiers[classifier].code)

    def code_of_concepts(self, classifier: str) -> str:
        """Digest of the code that the measures of an explanation network depend on."""
        return code_of("concept-measures", *self.study.classifiers[classifier].code)

    # Figures

    def figure_settings(self, figure: str) -> str:
        """Settings of `figure`, for a figure."""
        return write_settings(self.study.figures[figure])

    def relevance_of_figure(self, figure: str) -> list[str]:
        """Files that say that the relevance that a figure shows is complete."""
        return self.relevance_of_all(self.study.figures[figure].explanations)

    def inputs_of_figure(self, figure: str) -> list[str]:
        """Data, classifiers and predictions of a figure's explanations, which it also shows."""
        found: list[str] = []
        for name in self.study.figures[figure].explanations:
            found += [self.data_of(name), self.classifier_file_of(name)]
            found += self.predictions_of(name)
        return list(dict.fromkeys(found))

    def code_of_figure(self, figure: str) -> str:
        """Digest of the code that draws a figure."""
        one = self.study.figures[figure]
        return code_of("figure", root_of(one))

    def everything(self) -> list[str]:
        """All outputs of a study, including shards, so that deleted markers are noticed."""
        wanted: list[str] = []
        for name, one in self.study.explanations.items():
            if one.redraws_windows:
                wanted += self.shards_of(name)
            wanted += self.relevance_of(name)
            if one.nifti:
                wanted.append(f"{self.results}/relevance/{name}-nifti")
        wanted += [*self.tables(), self.findings]
        wanted += [f"{self.results}/pages/{name}.html" for name in self.pages]
        return wanted + [f"{self.results}/figures/{name}.png" for name in self.study.figures]
