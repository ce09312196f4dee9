"""The public OASIS cohort: tissue maps of demented subjects and of controls of similar age."""

import logging
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import Field
from scipy.optimize import linear_sum_assignment

from preddiff.datasets.base import DATASETS
from preddiff.datasets.volumes import VolumeSettings
from preddiff.errors import InputError
from preddiff.settings.base import Positive, Settings
from preddiff.storage.writers import write_tsv

Tissue = Literal["gm", "wm"]
MAPS: dict[Tissue, str] = {"gm": "gray_matter_maps", "wm": "white_matter_maps"}

# Subjects that nilearn can fetch at most.
SUBJECTS = 403

log = logging.getLogger(__name__)


class Oasis(Settings):
    """The public OASIS cohort, fetched by nilearn (`preddiff fetch-oasis`)."""

    subjects: Positive | None = Field(
        None, description="number of subjects to fetch; default: all 403"
    )
    tissue: Tissue = Field("gm", description="maps of grey matter (gm) or white matter (wm)")
    age_gap: Annotated[float, Field(ge=0)] = Field(
        3,
        description="largest difference in age between a patient and the matched control, in years",
    )
    data_dir: Path | None = Field(
        None, description="folder for nilearn's downloads; default: nilearn's own"
    )


@DATASETS.register
class OasisCohort(VolumeSettings):
    """The public OASIS cohort."""

    source: ClassVar[str] = "oasis"
    table_command: ClassVar[str | None] = "fetch-oasis"

    oasis: Oasis = Field(description="data to fetch; {} for the defaults")

    @property
    def table_settings(self) -> Settings:
        """What to fetch."""
        return self.oasis

    def number_of_items(self) -> int:
        """Number of subjects to fetch, an upper bound, because some have no match of their age."""
        return self.oasis.subjects or SUBJECTS


def write_oasis(
    folder: Path,
    *,
    subjects: int | None = None,
    tissue: Tissue = "gm",
    age_gap: int = 3,
    data_dir: Path | None = None,
) -> Path:
    """Fetch the OASIS cohort and write its table of subjects, ``participants.tsv``.

    The cohort is OASIS-1 (Marcus et al., Journal of Cognitive Neuroscience, 2007) as nilearn
    distributes it: probability maps of a tissue, segmented, normalised with DARTEL, modulated,
    resampled to 91 x 109 x 91 voxels of 2 mm; 403 subjects without nilearn's outliers. Its use
    requires agreeing with the data usage agreement that comes with it.

    Subjects with a clinical dementia rating (CDR) above 0 are in the group `demented`. Each is
    paired with a `control` of CDR 0 (see `match_ages`). Subjects who cannot be paired are excluded,
    so that the groups have the same size and a similar distribution of age, and so are subjects
    without a rating (the young ones).

    Parameters
    ----------
    folder : Path
        Folder of the table. The maps stay in nilearn's data folder.
    subjects : int, optional
        Use only this many subjects, the first ones; by default all.
    tissue : {"gm", "wm"}
        Grey or white matter maps.
    age_gap : int
        Largest difference in age within a pair, in years.
    data_dir : Path, optional
        Nilearn's data folder; by default as for nilearn (``NILEARN_DATA``, ``~/nilearn_data``).

    Returns
    -------
    Path
        The table, with the columns participant_id, group, <tissue> (file; relative to the table
        if it is below `folder`, otherwise absolute), age (years), sex (F or M) and cdr; sorted by
        participant_id.

    Raises
    ------
    InputError
        If the data cannot be found or downloaded, or if a group is empty.
    """
    cohort = _fetch(subjects, tissue, data_dir)
    matched = _matched(cohort, age_gap)
    matched[tissue] = [_path_for_table(Path(file), folder) for file in matched[tissue]]
    path = folder / "participants.tsv"
    write_tsv(matched, path)
    return path


def match_ages(
    patients: pd.Series, controls: pd.Series, age_gap: int
) -> tuple[pd.Series, pd.Series]:
    """Pair patients with controls of similar age, one to one.

    The number of pairs is the largest that `age_gap` allows; among the matchings of that size, the
    sum of differences is minimal (a linear assignment). The result is deterministic.

    Parameters
    ----------
    patients, controls : series of ages in years
    age_gap : int
        Largest difference within a pair.

    Returns
    -------
    patients, controls : series of ages
        Those that are paired: the i-th patient with the i-th control.
    """
    gaps = np.abs(patients.to_numpy(float)[:, None] - controls.to_numpy(float)[None, :])
    # A pair that is too far apart costs more than all others: first many pairs, then close ones.
    too_far = (age_gap + 1) * (min(gaps.shape) + 1)
    rows, columns = linear_sum_assignment(np.where(gaps <= age_gap, gaps, too_far))
    close = gaps[rows, columns] <= age_gap
    return patients.iloc[rows[close]], controls.iloc[columns[close]]


def _fetch(subjects: int | None, tissue: Tissue, data_dir: Path | None) -> pd.DataFrame:
    """Fetch nilearn's data set: the columns of the cohort's table, without the group."""
    # nilearn is imported where it is needed, since that takes seconds.
    from nilearn.datasets import fetch_oasis_vbm, get_data_dirs

    try:
        oasis = fetch_oasis_vbm(n_subjects=subjects, dartel_version=True, data_dir=data_dir)
    except (OSError, ValueError) as error:
        place = Path(get_data_dirs(data_dir)[0]).absolute()
        raise InputError(
            f"the OASIS cohort is not complete in {place / 'oasis1'} and could not be downloaded "
            f"({error}). Run `preddiff fetch-oasis` on a machine with internet access, with a "
            f"data_dir that this machine can read, or copy {place.name}/oasis1 from there"
        ) from error
    files = oasis[MAPS[tissue]]
    # Merge by name, because nilearn does not sort the covariates like the files.
    maps = pd.DataFrame({"id": [Path(file).parent.name for file in files], tissue: files})
    cohort = maps.merge(oasis["ext_vars"], on="id", validate="one_to_one")
    cohort = cohort.rename(columns={"id": "participant_id", "mf": "sex"})
    return cohort[["participant_id", tissue, "age", "sex", "cdr"]].sort_values("participant_id")


def _matched(cohort: pd.DataFrame, age_gap: int) -> pd.DataFrame:
    """Select the demented subjects and their controls, and add their group."""
    cohort = cohort.set_index("participant_id")
    demented = cohort.loc[cohort["cdr"] > 0, "age"]
    healthy = cohort.loc[cohort["cdr"] == 0, "age"]
    for group, found in (("above 0", demented), ("of 0", healthy)):
        if found.empty:
            raise InputError(
                f"OASIS: none of the {len(cohort)} subjects fetched has a clinical dementia "
                f"rating {group}; increase `subjects`, or omit it to use all"
            )
    patients, controls = match_ages(demented, healthy, age_gap)
    if patients.empty:
        raise InputError(
            f"OASIS: no demented subject among the {len(cohort)} fetched has a control within "
            f"{age_gap} years of age; increase `subjects`, or omit it to use all"
        )
    log.info(
        "OASIS: %d pairs out of %d demented subjects and %d controls; mean age %.1f and %.1f years",
        len(patients), len(demented), len(healthy), patients.mean(), controls.mean(),
    )  # fmt: skip
    groups = pd.concat(
        [
            pd.Series("demented", index=patients.index),
            pd.Series("control", index=controls.index),
        ]
    )
    table = cohort.loc[groups.index.sort_values()]
    table.insert(0, "group", groups)
    return table.reset_index()


def _path_for_table(file: Path, folder: Path) -> str:
    file, folder = file.resolve(), folder.resolve()
    return str(file.relative_to(folder) if file.is_relative_to(folder) else file)
