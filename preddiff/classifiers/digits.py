"""A small convolutional network for handwritten digits, and its training."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import nn
from torch.nn import functional

from preddiff.classifiers.base import CLASSIFIERS, ClassifierSettings
from preddiff.settings.base import Name, Positive, Settings

CLASSES = 10
# Largest learning rate of the one-cycle schedule.
_LARGEST_RATE = 0.01
_BATCH = 64


class DigitTraining(Settings):
    """How the small convolutional network is trained (`preddiff train-digits`)."""

    epochs: Positive = Field(30, description="number of passes over the training images")
    width: Positive = Field(16, description="number of feature maps of the first layer")


@CLASSIFIERS.register
class DigitClassifier(ClassifierSettings, DigitTraining):
    """A small convolutional network, trained on the digits in seconds."""

    command: ClassVar[str] = "train-digits"
    files: ClassVar[tuple[str, ...]] = ("weights.safetensors", "cv.json")

    kind: Literal["digits"] = Field(description="digits")
    dataset: Name = Field(description="name of the dataset of digits")

    @property
    def dimensions(self) -> int:
        """Two spatial axes."""
        return 2

    @property
    def channels(self) -> int:
        """One channel, the grey value."""
        return 1

    @property
    def space(self) -> tuple[int, ...]:
        """Size of the digits, on which the linear layers depend."""
        return (8, 8)

    @property
    def training_dataset(self) -> str:
        """The dataset of digits."""
        return self.dataset

    @property
    def stage_settings(self) -> Settings:
        """Settings of the training."""
        return self.part(DigitTraining)

    @classmethod
    def rebuild(cls, architecture: Mapping[str, Any], classes: int, folder: Path) -> nn.Module:
        """Build the network from its width."""
        return build(int(architecture["digits"]))


def build(width: int) -> nn.Module:
    """Build the network: four convolutions, a pooling layer between them, and two linear layers."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, width, 3, padding=1),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(width, 2 * width, 3, padding=1),
            relu2=nn.ReLU(),
            pool=nn.MaxPool2d(2),
            conv3=nn.Conv2d(2 * width, 4 * width, 3, padding=1),
            relu3=nn.ReLU(),
            conv4=nn.Conv2d(4 * width, 4 * width, 3, padding=1),
            relu4=nn.ReLU(),
            flatten=nn.Flatten(),
            dropout=nn.Dropout(0.5),
            linear=nn.Linear(4 * width * 16, 4 * width),
            relu5=nn.ReLU(),
            logits=nn.Linear(4 * width, CLASSES),
        )
    )


def train(
    x: NDArray[np.float32],
    y: NDArray[np.int64],
    *,
    width: int,
    epochs: int,
    seed: int,
    progress: Callable[[int], object] | None = None,
) -> nn.Module:
    """Train the network with AdamW, on images that are randomly shifted by up to one pixel.

    Parameters
    ----------
    x : float32 array (n, 1, 8, 8)
        Standardised images.
    y : int64 array (n,)
        Classes of the images.
    width, epochs, seed : int
    progress : callable, optional
        Called with 1 after each epoch.

    Returns
    -------
    nn.Module
        In eval mode.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build(width)
        steps = -(-len(x) // _BATCH)
        optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, _LARGEST_RATE, total_steps=epochs * steps
        )
        images, labels = torch.from_numpy(x), torch.from_numpy(y)
        network.train()
        for _ in range(epochs):
            for batch in torch.split(torch.randperm(len(images)), _BATCH):
                shift = torch.randint(-1, 2, (2,)).tolist()
                inputs = torch.roll(images[batch], shift, dims=(2, 3))
                loss = functional.cross_entropy(network(inputs), labels[batch])
                optimizer.zero_grad()
                torch.autograd.backward(loss)
                optimizer.step()
                schedule.step()
            if progress is not None:
                progress(1)
    return network.eval()
