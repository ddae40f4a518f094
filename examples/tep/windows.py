"""Windows as the gateway will cut them: a grid in wall time, each tag's last value at or before each grid point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from examples.tep.runs import RECORD_H, Run

if TYPE_CHECKING:
    from numpy.typing import NDArray

SPEED: Final = 360.0
"""Plant seconds per wall second in the demonstration."""
STEP_S: Final = 0.5
LENGTH: Final = 16
HOP_S: Final = 1.0
STEP_H: Final = STEP_S * SPEED / 3600.0
"""0.05 plant h: the 3 minutes usual in the literature."""
HOP_H: Final = HOP_S * SPEED / 3600.0
BAD_PER_ROW: Final = 0.01
LATE_PER_ROW: Final = 0.002
TRANSITION_H: Final = 0.5
"""Windows that end this soon after the onset hold too little of the fault to be trained on."""


@dataclass(frozen=True, slots=True)
class Windows:
    """Every window of some runs."""

    x: NDArray[np.float32]
    """Shape (n, 16, 53), engineering units, rows ascending in time."""
    fault: NDArray[np.int64]
    """Shape (n,): the fault that was on at the window's end, 0 for none."""
    since_h: NDArray[np.float64]
    """Shape (n,): plant hours from the onset to the window's end; infinite where no fault was on."""
    run: NDArray[np.int64]
    """Shape (n,): which run it comes from."""

    def where(self, chosen: NDArray[np.bool_]) -> Windows:
        """Only the chosen windows."""
        return Windows(self.x[chosen], self.fault[chosen], self.since_h[chosen], self.run[chosen])


def cut(run: Run, index: int) -> Windows:
    """Every window of one run. The phase of the grid against the plant's updates varies with the run's seed."""
    phase_h = run.plan.seed % 100 / 100.0 * STEP_H
    rows = int((len(run.values) * RECORD_H - phase_h) / STEP_H)
    times = phase_h + STEP_H * np.arange(rows)
    held = _faltered(run.values[np.floor(times / RECORD_H + 1e-9).astype(np.int64)], run.plan.seed)
    starts = np.arange(0, rows - LENGTH + 1, round(HOP_H / STEP_H))
    ends = times[starts + LENGTH - 1]
    since = ends - run.plan.onset_h if run.plan.fault else np.full(len(ends), -1.0)
    on = since > 0
    return Windows(
        x=np.stack([held[start : start + LENGTH] for start in starts]),
        fault=np.where(on, run.plan.fault, 0),
        since_h=np.where(on, since, np.inf),
        run=np.full(len(ends), index, dtype=np.int64),
    )


def _faltered(rows: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """The rows as a gateway sees them: now and then a Bad value is held over, or a whole update comes late."""
    random = np.random.default_rng(seed)
    held = rows.copy()
    for row in np.flatnonzero(random.random(len(rows)) < BAD_PER_ROW)[1:]:
        column = random.integers(rows.shape[1])
        held[row, column] = held[row - 1, column]
    for row in np.flatnonzero(random.random(len(rows)) < LATE_PER_ROW)[1:]:
        held[row] = held[row - 1]
    return held


def join(parts: list[Windows]) -> Windows:
    """All windows of several runs, in order."""
    return Windows(*(np.concatenate([getattr(part, name) for part in parts]) for name in Windows.__slots__))
