"""A small cohort and study, quick enough for tests, with lesions that a classifier can find."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import yaml
from scipy import ndimage

SHAPE = (14, 13, 12)
AFFINE = np.diag([-2.0, 2, 2, 1])
AFFINE[:3, 3] = (30, -20, -10)
LESION = (slice(5, 9), slice(4, 8), slice(4, 8))


def write_cohort(folder: Path, controls: int = 6, patients: int = 8) -> Path:
    generator = np.random.default_rng(4)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(controls + patients):
        name, patient = f"sub-{number:02d}", number >= controls
        values = 0.5 + 0.5 * ndimage.gaussian_filter(generator.normal(size=SHAPE), 0.7)
        mask = np.zeros(SHAPE, dtype=np.uint8)
        if patient:
            values[LESION] -= 0.3
            mask[LESION] = 1
            nib.save(nib.Nifti1Image(mask, AFFINE), folder / f"{name}_mask.nii.gz")
        nib.save(nib.Nifti1Image(values.astype(np.float32), AFFINE), folder / f"{name}.nii.gz")
        rows.append(
            {
                "participant_id": name,
                "group": "patient" if patient else "control",
                "fa": f"{name}.nii.gz",
                "truth": f"{name}_mask.nii.gz" if patient else "n/a",
            }
        )
    table = folder / "participants.tsv"
    pd.DataFrame(rows).to_csv(table, sep="\t", index=False)
    return table


def small_study(table: Path, name: str) -> dict[str, Any]:
    conditional = {"classifier": "logistic", "sampler": "conditional", "k": 2, "l": 4}
    return {
        "study": name,
        "seed": 3,
        "datasets": {"cohort": {"table": str(table), "truth": "truth"}},
        "classifiers": {
            "logistic": {
                "kind": "logistic",
                "dataset": "cohort",
                "slices": [4, 9],
                "folds": 3,
                "C": [0.1, 1.0],
                "inner_folds": 2,
            }
        },
        "samplers": {
            "conditional": {"kind": "conditional", "patches": 3000},
            "location": {
                "kind": "conditional",
                "patches": 3000,
                "grid": [3, 3, 3],
                "cell_patches": 300,
            },
            "marginal": {"kind": "marginal"},
            "grey": {"kind": "grey"},
        },
        "explanations": {
            "exact": {**conditional, "nifti": True},
            "samples": {
                **conditional,
                "estimator": "samples",
                "samples": 5,
                "block": 100,
                "items_per_job": 5,
            },
            "location": {**conditional, "sampler": "location"},
            "marginal": {
                **conditional,
                "sampler": "marginal",
                "targets": ["probability:patient", "logit:control"],
            },
            "grey": {**conditional, "sampler": "grey", "items": 3},
        },
        "figures": {
            "weights": {"kind": "weights", "explanations": ["exact"], "slices": [4, 8]},
            "subjects": {
                "kind": "subjects",
                "explanations": ["exact"],
                "slices": [7],
                "per_class": 2,
            },
            "slices": {"kind": "slices", "explanations": ["exact"]},
            "sizes": {"kind": "patch-sizes", "explanations": ["exact", "location"], "slices": [6]},
        },
    }


def write_config(path: Path, settings: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(settings))
    return path
