"""Targets: their forms, and what is read for them from a network's outputs."""

import numpy as np
import pytest
import torch
from scipy.special import softmax

from preddiff.classifiers.readout import Readout
from preddiff.errors import InputError
from preddiff.targets import Target, check_target, expand


@pytest.mark.parametrize(
    "text", ["probability:tabby, tabby cat", "logit:top-3", "map:features.3:17", "logit:a:b"]
)
def test_targets_are_written_as_they_are_read(text: str) -> None:
    assert str(Target.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["tabby", "probability:", "odds:tabby", "map:features.3", "layer:", "layer:a:x"]
)
def test_other_forms_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="write it as"):
        check_target(text)


def test_layers_stand_for_their_maps() -> None:
    found = expand(["layer:conv1", "probability:true", "layer:a.b:2,0", "map:a.b:2"], lambda _: 3)
    assert [str(target) for target in found] == [
        "map:conv1:0",
        "map:conv1:1",
        "map:conv1:2",
        "probability:true",
        "map:a.b:2",
        "map:a.b:0",
    ]
    assert found[0].layer == "conv1" and found[4].layer == "a.b" and found[4].number == 2
    with pytest.raises(InputError, match="maps 0 to 2"):
        expand(["layer:conv1:3"], lambda _: 3)
    with pytest.raises(InputError, match="maps 0 to 2"):
        expand(["map:conv1:3"], lambda _: 3)


def test_ranks() -> None:
    assert Target.parse("logit:top-3").rank == 3
    assert Target.parse("logit:top-hat").rank is None
    assert Target.parse("logit:true").rank is None


def test_readout_against_numpy() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn((4, 7), generator=generator)
    means = {"a": torch.randn((4, 3), generator=generator), "b": torch.rand((4, 2))}
    texts = ["map:b:1", "logit:x", "probability:y", "map:a:0", "map:b:0", "probability:z"]
    readout = Readout(tuple(Target.parse(text) for text in texts))
    assert readout.layers == ("b", "a")
    found = readout(logits, means, [-1, 5, 2, -1, -1, 6]).numpy()
    p = softmax(logits.double().numpy(), axis=1)
    expected = np.stack(
        [means["b"][:, 1], logits[:, 5], p[:, 2], means["a"][:, 0], means["b"][:, 0], p[:, 6]], 1
    )
    assert found.dtype == np.float64
    assert found == pytest.approx(expected, abs=1e-7)
