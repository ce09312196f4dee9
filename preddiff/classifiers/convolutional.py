"""A small convolutional network for volumes, and its training on a cohort."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import nn
from torch.nn import functional

from preddiff.classifiers.base import CLASSIFIERS, ClassifierSettings, missing_column
from preddiff.classifiers.held_out import FOLDS, ITEMS
from preddiff.datasets.base import DatasetSettings
from preddiff.datasets.slab import Slab
from preddiff.settings.base import Name, Positive, Settings

# Largest learning rate of the one-cycle schedule, weight decay, and volumes per step.
_LARGEST_RATE = 1e-3
_DECAY = 1.0
_BATCH = 16
_STRIDE = 2
_LAYERS = 3


class ConvolutionalTraining(Slab):
    """How the small convolutional network is trained (`preddiff train-convolutional`)."""

    slices: tuple[int, int] | None = Field(
        None,
        description="first and last slice that it sees, inclusive, counted from 0; default: the "
        "whole volume",
    )
    width: Positive = Field(4, description="number of feature maps of the first layer")
    epochs: Positive = Field(30, description="number of passes over the training volumes")
    folds: Annotated[int, Field(ge=2)] = Field(
        5, description="number of folds of the cross-validation"
    )


@CLASSIFIERS.register
class ConvolutionalClassifier(ClassifierSettings, ConvolutionalTraining):
    """A small 3-D convolutional network, trained on a cohort in a minute."""

    command: ClassVar[str] = "train-convolutional"
    files: ClassVar[tuple[str, ...]] = (
        "weights.safetensors",
        "cv.json",
        "cv.tsv",
        f"{FOLDS}/{ITEMS}",
    )
    has_folds: ClassVar[bool] = True

    kind: Literal["convolutional"] = Field(description="convolutional")
    dataset: Name = Field(description="name of the cohort that it is trained on")

    @property
    def dimensions(self) -> int:
        """Three spatial axes."""
        return 3

    @property
    def training_dataset(self) -> str:
        """The cohort."""
        return self.dataset

    def problem_with(self, dataset: DatasetSettings) -> str | None:
        """Say that the dataset has no classes."""
        return missing_column(dataset, predicts_values=False)

    @property
    def stage_settings(self) -> Settings:
        """Slab, size of the network and its training."""
        return self.part(ConvolutionalTraining)

    @classmethod
    def rebuild(cls, architecture: Mapping[str, Any], classes: int, folder: Path) -> nn.Module:
        """Build the network from its size."""
        about = architecture["convolutional"]
        return build(about["width"], about["channels"], tuple(about["space"]), classes)


def build(width: int, channels: int, space: tuple[int, ...], classes: int) -> nn.Module:
    """Build the network: three convolutions, each of which halves the volume, and a linear layer.

    Parameters
    ----------
    width : int
        Feature maps of the first layer; the next ones have twice and four times as many.
    channels : int
        Channels of the input.
    space : tuple of int
        Spatial shape of the input (x, y, z).
    classes : int
    """
    reduced = space
    for _ in range(_LAYERS):
        reduced = tuple(-(-n // _STRIDE) for n in reduced)
    units = 4 * width * int(np.prod(reduced))
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv3d(channels, width, 3, stride=_STRIDE, padding=1),
            relu1=nn.ReLU(),
            conv2=nn.Conv3d(width, 2 * width, 3, stride=_STRIDE, padding=1),
            relu2=nn.ReLU(),
            conv3=nn.Conv3d(2 * width, 4 * width, 3, stride=_STRIDE, padding=1),
            relu3=nn.ReLU(),
            flatten=nn.Flatten(),
            dropout=nn.Dropout(0.5),
            logits=nn.Linear(units, classes),
        )
    )


def train(
    network: nn.Module,
    x: NDArray[np.float32],
    y: NDArray[np.int64],
    *,
    epochs: int,
    seed: int,
    progress: Callable[[int], object] | None = None,
) -> nn.Module:
    """Train a network with AdamW, on volumes that are randomly rolled by up to one voxel.

    The weight decay is strong, since cohorts are small: without it, the network learns its
    volumes by heart.

    Parameters
    ----------
    network : nn.Module
        Its weights are drawn anew.
    x : float32 array (n, channels, *space)
        Standardised volumes.
    y : int64 array (n,)
        Classes of the volumes.
    epochs, seed : int
    progress : callable, optional
        Called with 1 after each epoch.

    Returns
    -------
    nn.Module
        The network, in eval mode.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for layer in network.modules():
            if isinstance(layer, nn.Conv3d | nn.Linear):
                layer.reset_parameters()
        steps = -(-len(x) // _BATCH)
        optimizer = torch.optim.AdamW(network.parameters(), weight_decay=_DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, _LARGEST_RATE, total_steps=epochs * steps
        )
        volumes, labels = torch.from_numpy(x), torch.from_numpy(y)
        network.train()
        for _ in range(epochs):
            for batch in torch.split(torch.randperm(len(volumes)), _BATCH):
                shift = torch.randint(-1, 2, (3,)).tolist()
                inputs = torch.roll(volumes[batch], shift, dims=(2, 3, 4))
                loss = functional.cross_entropy(network(inputs), labels[batch])
                optimizer.zero_grad()
                torch.autograd.backward(loss)
                optimizer.step()
                schedule.step()
            if progress is not None:
                progress(1)
    return network.eval()
