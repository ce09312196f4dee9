"""Stage map with Captum and RISE, on the digits and their network."""

from argparse import ArgumentParser
from pathlib import Path

import numpy as np
import pytest

from preddiff.classifiers.digits import DigitTraining
from preddiff.datasets.digits import DigitSettings
from preddiff.errors import InputError
from preddiff.stages import open_maps
from preddiff.stages.map import compute_maps
from preddiff.stages.predict import predict
from preddiff.stages.prepare_digits import prepare_digits
from preddiff.stages.train_digits import train_digits
from preddiff.storage.relevance import window_side
from preddiff.storage.stores import open_dataset


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("digits")
    prepare_digits(DigitSettings(), 0, made / "digits.zarr")
    train_digits(made / "digits.zarr", DigitTraining(epochs=2, width=4), 0, made / "network")
    predict(made / "digits.zarr", made / "network", "cpu", 1, made / "predictions.tsv")
    return made


def run(folder: Path, *options: str) -> Path:
    parser = ArgumentParser()
    open_maps.add_arguments(parser)
    out = folder / f"{'-'.join(options).replace('/', '')}.zarr"
    where = [f"--data={folder}/digits.zarr", f"--classifier={folder}/network", "--device=cpu"]
    where += [f"--predictions={folder}/predictions.tsv", f"--out={out}", "--items=3"]
    open_maps.run(parser.parse_args([*where, *options]))
    compute_maps(out)
    return out


@pytest.mark.parametrize(
    ("options", "evidence"),
    [
        (["--method=captum", "--algorithm=DeepLift"], True),
        (["--method=captum", "--algorithm=LayerGradCam", "--layer=relu4"], True),
        (["--method=captum", "--algorithm=SmoothGrad", '--arguments={"nt_samples": 3}'], False),
        (["--method=rise", "--masks=40", "--cells=4"], False),
    ],
)
def test_maps_are_stored(folder: Path, options: list[str], evidence: bool) -> None:
    found = open_dataset(run(folder, *options))
    assert found["relevance"].shape == (3, 1, 8, 8)
    assert np.isfinite(found["relevance"].values).all()
    assert (found["relevance"].values != 0).any((1, 2, 3)).all()
    assert (found["stderr"].values > 0).any() == ("rise" in options[0])
    assert found.attrs["shows_evidence"] == evidence
    assert window_side(found.attrs) is None and "units" not in found["relevance"].attrs
    kind = "probability" if "rise" in options[0] else "logit"
    assert found["target"].values.tolist() == [f"{kind}:top-1"]


def test_deeplift_adds_up_to_the_logits(folder: Path) -> None:
    found = open_dataset(
        run(folder, "--method=captum", "--algorithm=DeepLift", "--targets", "logit:3", "logit:7")
    )
    zero = open_dataset(
        run(
            folder, "--method=captum", "--algorithm=IntegratedGradients", "--targets", "logit:3",
            "logit:7", '--arguments={"n_steps": 300}',
        )
    )  # fmt: skip
    both = [one["relevance"].values.sum((2, 3)) for one in (found, zero)]
    assert both[0] == pytest.approx(both[1], rel=2e-2, abs=2e-2)


def test_a_layer_that_the_network_lacks_is_named(folder: Path) -> None:
    with pytest.raises(InputError, match="no layer 'relu9'"):
        run(folder, "--method=captum", "--algorithm=LayerGradCam", "--layer=relu9")
