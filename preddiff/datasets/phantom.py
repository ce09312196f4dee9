"""A phantom cohort: synthetic maps of fractional anisotropy, with lesions that are known."""

import gzip
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import ClassVar

import nibabel as nib
import numpy as np
import pandas as pd
from nibabel.processing import resample_from_to
from numpy.typing import NDArray
from pydantic import Field
from scipy import ndimage
from scipy.interpolate import BSpline

from preddiff.datasets.base import DATASETS
from preddiff.datasets.volumes import VolumeSettings
from preddiff.errors import InputError
from preddiff.progress import progress
from preddiff.settings.base import Positive, Settings
from preddiff.storage.files import write_atomically
from preddiff.storage.writers import write_json, write_tsv

FloatArray = NDArray[np.float32]

SHAPE = (91, 109, 91)
AFFINE = np.array([[-2.0, 0, 0, 90], [0, 2, 0, -126], [0, 0, 2, -72], [0, 0, 0, 1]])
# First and last slice (of the first axis) that contain lesions.
SLICES = (29, 40)

# Fractional anisotropy of grey and pure white matter.
_GREY, _WHITE = 0.12, 0.65
# Number of possible sites of lesions, range of the number per patient, and radius in voxels.
_SITES, _PER_PATIENT, _RADIUS = 12, (4, 9), 3.5
# Standard deviations of what differs between healthy subjects.
_DEFORMATION, _FIELD, _SCANNER, _NOISE = 0.8, 0.05, 0.02, 0.03
# Range of the relative loss of anisotropy at the centre of a lesion.
_LOSS = (0.15, 0.42)
# Spacing of the coarse grid of smooth fields, in voxels.
_STEP = 12


class Phantom(Settings):
    """A simulated cohort with known lesions, written as NIfTI files (`preddiff phantom`)."""

    patients: Positive = Field(100, description="number of patients")
    controls: Positive = Field(70, description="number of healthy controls")


@DATASETS.register
class PhantomCohort(VolumeSettings):
    """A phantom: a simulated cohort with known lesions."""

    source: ClassVar[str] = "phantom"
    table_command: ClassVar[str | None] = "phantom"

    phantom: Phantom = Field(description="number of subjects; {} for the defaults")

    @property
    def table_settings(self) -> Settings:
        """Numbers of subjects."""
        return self.phantom

    def number_of_items(self) -> int:
        """Patients and controls."""
        return self.phantom.patients + self.phantom.controls


@dataclass(frozen=True)
class Anatomy:
    """The template that all subjects are deformed from.

    Attributes
    ----------
    anisotropy : float32 array SHAPE
    brain : bool array SHAPE
    sites : int array (n, 3)
        Voxels that may be centres of lesions.
    """

    anisotropy: FloatArray
    brain: NDArray[np.bool_]
    sites: NDArray[np.int64]


@dataclass(frozen=True)
class Scan:
    """One subject's scan.

    Attributes
    ----------
    anisotropy : float32 array SHAPE
        In [0, 1]; 0 outside the brain.
    truth : bool array SHAPE
        Voxels whose anisotropy lesions reduce by more than half of the smallest loss at a centre.
    """

    anisotropy: FloatArray
    truth: NDArray[np.bool_]


@cache
def anatomy(seed: int) -> Anatomy:
    """Make the template from the MNI152 white-matter map that comes with nilearn."""
    # nilearn is imported where it is needed, since that takes seconds.
    from nilearn.datasets import load_mni152_brain_mask, load_mni152_wm_template

    grid = (SHAPE, AFFINE)
    white = resample_from_to(load_mni152_wm_template(resolution=2), grid, order=1).get_fdata()
    mask = resample_from_to(load_mni152_brain_mask(resolution=2), grid, order=0).get_fdata()
    brain = mask > 0.5
    white = np.clip(white / white.max(), 0, 1)
    anisotropy = np.where(brain, _GREY + (_WHITE - _GREY) * white, 0).astype(np.float32)
    return Anatomy(anisotropy, brain, _sites(white * brain, np.random.default_rng((seed, 0))))


def _sites(white: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.int64]:
    """Choose centres of lesions deep in white matter, so far apart that lesions do not overlap."""
    margin = int(np.ceil(_RADIUS))
    deep = ndimage.uniform_filter(white, 5) > 0.55
    deep[: SLICES[0] + margin] = deep[SLICES[1] - margin + 1 :] = False
    candidates = generator.permutation(np.argwhere(deep))
    chosen: list[NDArray[np.int64]] = []
    for candidate in candidates:
        if all(np.linalg.norm(candidate - other) > 4 * _RADIUS for other in chosen):
            chosen.append(candidate)
        if len(chosen) == _SITES:
            break
    return np.array(chosen)


def smooth_field(generator: np.random.Generator) -> FloatArray:
    """Draw a smooth random field on the grid, with mean about 0 and standard deviation 1.

    The field is a cubic B-spline with a knot every `_STEP` voxels, whose coefficients are
    independent and normal.
    """
    splines = [_splines(n) for n in SHAPE]
    coefficients = generator.normal(size=[matrix.shape[1] for matrix in splines])
    field = np.einsum("xi,yj,zk,ijk->xyz", *splines, coefficients, optimize=True)
    return np.asarray(field / field.std(), dtype=np.float32)


@cache
def _splines(length: int) -> NDArray[np.float64]:
    """Evaluate the cubic B-splines at the voxels of an axis: (length, splines)."""
    knots = np.arange(-3, length // _STEP + 5) * float(_STEP)
    return BSpline.design_matrix(np.arange(length), knots, 3).toarray()


def lesions(sites: NDArray[np.int64], generator: np.random.Generator) -> FloatArray:
    """Draw a patient's relative loss of anisotropy, at a random subset of the sites."""
    loss = np.zeros(SHAPE, dtype=np.float32)
    count = min(int(generator.integers(*_PER_PATIENT)), len(sites))
    axes = np.ogrid[tuple(slice(0, n) for n in SHAPE)]
    for site in generator.permutation(sites)[:count]:
        squared = sum((axis - c) ** 2 for axis, c in zip(axes, site, strict=True))
        shape = np.clip(1.5 - np.sqrt(squared) / _RADIUS, 0, 1)
        loss = np.maximum(loss, generator.uniform(*_LOSS) * shape).astype(np.float32)
    return loss


def scan(template: Anatomy, *, patient: bool, scanner: int, seed: int, subject: int) -> Scan:
    """Make the scan of one subject.

    Patients and controls differ only in the lesions: everything else is drawn first, from the same
    distributions.

    Parameters
    ----------
    template : Anatomy
    patient : bool
    scanner : {0, 1}
    seed, subject : int
        Random numbers depend on these two only.

    Returns
    -------
    Scan
    """
    generator = np.random.default_rng((seed, 1, subject))
    moved = np.stack([np.broadcast_to(a, SHAPE) for a in np.ogrid[tuple(map(slice, SHAPE))]])
    moved = moved + _DEFORMATION * np.stack([smooth_field(generator) for _ in range(3)])
    gain = 1 + _FIELD * smooth_field(generator) + _SCANNER * (2 * scanner - 1)
    noise = ndimage.gaussian_filter(generator.normal(size=SHAPE).astype(np.float32), 0.7)
    noise *= _NOISE / noise.std()
    loss = lesions(template.sites, generator) if patient else np.zeros(SHAPE, dtype=np.float32)
    deformed = ndimage.map_coordinates(template.anisotropy * (1 - loss), moved, order=1)
    brain = ndimage.map_coordinates(template.brain.astype(np.float32), moved, order=1) > 0.5
    lost = ndimage.map_coordinates(loss, moved, order=1)
    lost[: SLICES[0]] = lost[SLICES[1] + 1 :] = 0
    anisotropy = np.where(brain, np.clip(deformed * gain + noise, 0, 1), 0).astype(np.float32)
    return Scan(anisotropy, (lost > 0.5 * _LOSS[0]) & brain)


def write_phantom(
    folder: Path, *, patients: int = 100, controls: int = 70, seed: int = 1, processes: int = 1
) -> Path:
    """Write the cohort as NIfTI files with a BIDS-style table of participants.

    Parameters
    ----------
    folder : Path
    patients, controls : int
        Number of subjects in the two groups; each group is divided evenly between two scanners.
    seed : int
    processes : int
        Number of worker processes; it does not change the result.

    Returns
    -------
    Path
        participants.tsv, with the columns participant_id, group, scanner, fa (map of fractional
        anisotropy) and truth (mask of the lesions); written last.

    Raises
    ------
    InputError
        If a group is empty.
    """
    if patients < 1 or controls < 1:
        raise InputError(
            f"a cohort of {patients} patients and {controls} controls has an empty group: both "
            "numbers must be at least 1"
        )
    folder.mkdir(parents=True, exist_ok=True)
    rows = _participants(patients, controls, seed)
    with ProcessPoolExecutor(processes) as pool:
        work = pool.map(
            partial(_write_subject, folder, seed), range(len(rows)), rows.to_dict("records")
        )
        for _ in progress(work, total=len(rows), desc="phantom", unit="subject"):
            pass
    sites = np.zeros(SHAPE, dtype=bool)
    sites[tuple(anatomy(seed).sites.T)] = True
    _write_mask(sites, folder / "sites.nii.gz")
    write_json(_COLUMNS, folder / "participants.json")
    table = folder / "participants.tsv"
    write_tsv(rows, table)
    return table


_COLUMNS = {
    "group": {"Levels": {"patient": "has lesions", "control": "has none"}},
    "scanner": {"Description": "one of two scanners, which differ in their gain"},
    "fa": {"Description": "map of fractional anisotropy, relative to this folder"},
    "truth": {"Description": "mask of the lesions, relative to this folder"},
}


def _participants(patients: int, controls: int, seed: int) -> pd.DataFrame:
    groups = ["patient"] * patients + ["control"] * controls
    scanners = [number % 2 for number in range(patients)] + [n % 2 for n in range(controls)]
    order = np.random.default_rng((seed, 2)).permutation(len(groups))
    names = [f"sub-{number + 1:03d}" for number in range(len(groups))]
    return pd.DataFrame(
        {
            "participant_id": names,
            "group": [groups[n] for n in order],
            "scanner": ["AB"[scanners[n]] for n in order],
            "fa": [f"{name}/dwi/{name}_FA.nii.gz" for name in names],
            "truth": [
                f"{name}/dwi/{name}_lesions.nii.gz" if groups[n] == "patient" else "n/a"
                for name, n in zip(names, order, strict=True)
            ],
        }
    )


def _write_subject(folder: Path, seed: int, subject: int, row: dict[str, str]) -> None:
    patient = row["group"] == "patient"
    scanner = "AB".index(row["scanner"])
    made = scan(anatomy(seed), patient=patient, scanner=scanner, seed=seed, subject=subject)
    # Multiples of 0.0001, as integers, compress better than floating-point noise. As the header has
    # a slope, nibabel does not rescale them.
    image = nib.Nifti1Image(np.round(made.anisotropy * 1e4).astype(np.int16), AFFINE)
    image.header.set_slope_inter(1e-4, 0)
    _write_image(image, folder / row["fa"])
    if patient:
        _write_mask(made.truth, folder / row["truth"])


def _write_mask(mask: NDArray[np.bool_], path: Path) -> None:
    _write_image(nib.Nifti1Image(mask.astype(np.uint8), AFFINE), path)


def _write_image(image: nib.Nifti1Image, path: Path) -> None:
    # Without a time stamp in the gzip header, equal images are equal files.
    with write_atomically(path) as temporary:
        temporary.write_bytes(gzip.compress(image.to_bytes(), compresslevel=3, mtime=0))
