"""Stage train-digits: train a small network on the digits."""

import argparse
from pathlib import Path

import torch

from preddiff.classifiers import digits
from preddiff.classifiers.digits import DigitTraining
from preddiff.classifiers.standardisation import Standardisation
from preddiff.classifiers.stored import store_network
from preddiff.datasets.items import Items
from preddiff.devices import use_cores
from preddiff.progress import progress
from preddiff.settings.options import add_path, add_seed, add_settings, add_threads, read_settings
from preddiff.storage.writers import write_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    add_path(parser, "--data", "data store of digits")
    add_settings(parser, DigitTraining)
    add_path(parser, "--out", "folder for the classifier")
    add_seed(parser)
    add_threads(parser)


def run(arguments: argparse.Namespace) -> None:
    """Train and store the network."""
    use_cores(arguments.threads)
    settings = read_settings(arguments, DigitTraining)
    train_digits(arguments.data, settings, arguments.seed, arguments.out)


def train_digits(data: Path, settings: DigitTraining, seed: int, out: Path) -> None:
    """Train the network for digits, and report its accuracy on the test items.

    Writes `cv.json` with the accuracies, the weights and, last, `classifier.json`.

    Parameters
    ----------
    data : Path
        Data store of digits.
    settings : DigitTraining
    seed : int
    out : Path
        Folder for the classifier.
    """
    items = Items(data)
    x = items.read(range(len(items.names)))
    training = x[items.training]
    standardisation = Standardisation((float(training.mean()),), (float(training.std()),))
    inputs = standardisation.image(torch.from_numpy(x)).numpy()
    with progress(total=settings.epochs, desc="train", unit="epoch") as bar:
        network = digits.train(
            inputs[items.training],
            items.class_numbers[items.training],
            width=settings.width,
            epochs=settings.epochs,
            seed=seed,
            progress=bar.update,
        )
    with torch.inference_mode():
        predicted = network(torch.from_numpy(inputs)).argmax(1).numpy()
    correct = predicted == items.class_numbers
    training_size = int(items.training.sum())
    scores = {
        "training_items": training_size,
        "training_accuracy": float(correct[items.training].mean()),
        "test_items": int((~items.training).sum()),
        "test_accuracy": float(correct[~items.training].mean()),
    }
    write_json(scores, out / "cv.json")
    architecture = {"digits": settings.width}
    store_network(
        network, architecture, items.classes, training_size, items.space, standardisation, out
    )
