"""Exactness: both engines on the device, in float64, against whole passes on the CPU."""

import numpy as np

from preddiff.engines.dense import Dense
from preddiff.engines.incremental.engine import Incremental
from preddiff.evidence import Expectations
from tests.gpu import subjects
from tests.gpu.run import Run

# Of the largest change: float64 has 16 digits, of which sums in another order cost a few.
TOLERANCE = 1e-9


def part(run: Run) -> None:
    """Exactness of both engines in float64"""
    run.say(f"{'network':12} {'engine':12} {'change':>10} {'variance':>10}  (largest error)")
    for dimensions in (2, 3):
        subject = subjects.small(dimensions).in_float64()
        exact = subject.engine(Dense, "cpu").expectations(subject.x, ["item"], subject.block)
        for kind in (Dense, Incremental):
            name = f"small {dimensions}-D", kind.__name__.lower()
            one = subject.engine(kind, run.device)
            found = one.expectations(subject.x, ["item"], subject.block)
            errors = [error(found, exact, what) for what in ("change", "variance")]
            holds = run.check(f"exactness of {' '.join(name)}", max(errors) <= TOLERANCE)
            columns = " ".join(f"{each:10.1e}" for each in errors)
            run.say(f"{name[0]:12} {name[1]:12} {columns}  {holds}{recomputed(run, one)}")


def error(found: Expectations, exact: Expectations, what: str) -> float:
    """Largest error over the windows, as a share of the largest value; of the worst target."""
    ours, wanted = (
        getattr(one, what)[0].reshape(len(one.reference[0]), -1) for one in (found, exact)
    )
    return float((np.abs(ours - wanted).max(1) / np.abs(wanted).max(1)).max())


def recomputed(run: Run, one: Dense) -> str:
    """Check that an incremental engine recomputed changes only; returns a remark if it did not."""
    if not isinstance(one, Incremental):
        return ""
    changes_only = one.network is not None and not one.network.whole_map_operations
    run.check("the incremental engine recomputes changes only", changes_only)
    return "" if changes_only else " (but evaluated in whole maps)"
