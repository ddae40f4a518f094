"""What a window is: how each input is resampled and trusted, when a window closes, and what a closed one carries."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.lib.stride_tricks import as_strided

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

RESAMPLES: Final = ("last", "linear", "mean", "min", "max")
POLICIES: Final = ("good", "uncertain", "hold", "interpolate")
KINDS: Final = ("grid", "trigger", "between", "message")
CYCLES: Final = ("trigger", "between")
"""Kinds whose windows are cycles of a machine, each of a length of its own."""

LAST_USABLE: Final = 0x40900000
"""UncertainLastUsableValue: the cell shows a value that was true once and is held by policy."""
SUBSTITUTE: Final = 0x40910000
"""UncertainSubstituteValue: the cell was interpolated over readings that could not be used."""
SUB_NORMAL: Final = 0x40950000
"""UncertainSubNormal: an aggregate over fewer readings than its cell held, the others were not usable."""

FLAWS: Final = ("", "bad_status", "not_finite", "wrong_type", "gap", "no_data")
BAD_STATUS, NOT_FINITE, WRONG_TYPE, GAP, NO_DATA = range(1, len(FLAWS))
FLAW_STATUS: Final = np.array(
    [0, 0x80000000, 0x803C0000, 0x80740000, 0x80310000, 0x80320000], dtype=np.uint32,
)
"""Per flaw: Good, Bad, BadOutOfRange, BadTypeMismatch, BadNoCommunication, BadWaitingForInitialData."""

SECOND: Final = 1_000_000_000
MAX_INPUTS: Final = 65_535
MAX_CELLS: Final = 1 << 24
MAX_SECONDS: Final = 1e9


@dataclass(frozen=True, slots=True)
class Input:
    """One column of the model: where its readings come from, how they fill a row, and which of them are believed.

    `resample`, at a row's time t of a grid:
    * `last`: the newest reading with source time <= t, held through silence while the connection is alive;
    * `linear`: between the readings around t if the later one is known when the row closes, else `last`;
    * `mean`, `min`, `max`: over the usable readings in (t - step, t]; `last` if the cell holds no reading.

    `policy`, which readings can be used (never one that is not finite or not a number):
    * `good`: only Good ones, and every reading of a `mean`, `min` or `max` must be;
    * `uncertain`: Good and Uncertain; the row is Uncertain if one was. An aggregate leaves Bad readings out and says
      UncertainSubNormal;
    * `hold`: as `uncertain`; where that refuses, the last usable value, UncertainLastUsableValue, for at most `hold_s`
      from the moment it was lost (the first unusable reading after it, or the start of the gap);
    * `interpolate`: as `hold`, but linear between the usable neighbours if the later one is known,
      UncertainSubstituteValue.
    What cannot be satisfied refuses the window with a reason that names the tag.
    """

    tag: int
    connection: int
    """Liveness is per connection."""
    resample: str = "last"
    policy: str = "uncertain"
    hold_s: float = 0.0
    max_gap_s: float = 60.0
    """A row is in a gap when the tag has no reading and its connection no sign of life in the max_gap_s before it."""
    use_received_time: bool = False
    """Readings without a source time count at their received time; otherwise they are ignored and counted."""

    def problems(self) -> Iterator[str]:
        """What is wrong with it, one sentence each."""
        if self.resample not in RESAMPLES:
            yield f"tag {self.tag}: resample is {self.resample!r}, must be one of {', '.join(RESAMPLES)}"
        if self.policy not in POLICIES:
            yield f"tag {self.tag}: policy is {self.policy!r}, must be one of {', '.join(POLICIES)}"
        for name in ("hold_s", "max_gap_s"):
            seconds = getattr(self, name)
            if not (math.isfinite(seconds) and 0 <= seconds <= MAX_SECONDS):
                yield f"tag {self.tag}: {name} is {seconds}, must be from 0 to {MAX_SECONDS:g}"


@dataclass(frozen=True, slots=True)
class Spec:
    """When windows open and close, and what they hold. Raises ValueError, with every problem, when it makes no sense.

    `grid`: rows lie on multiples of `step_ns` since 1970. A row closes when the clock (the largest received time fed
    so far) has reached its time + `lateness_ns`, or at once when every input has been seen with a source time at or
    after it. Windows end where (row time / step_ns) % hop == 0.

    `trigger`: each change of the trigger tag's value closes one window over (previous change, this change] under the
    same two rules with the trigger's source time, so that the last samples may arrive after the trigger. Usable
    samples are interpolated linearly, whatever `resample` says, at `length` even points from the first to the last
    sample time of the cycle. The first value seen only arms. A counter that jumps by more than one gives the missing
    counts a refused window each (`part_missed`), before the window of the new count.

    `between`: as `trigger`, over (start, stop] of a cycle; `trigger` is the tag of the start (`windower_between`).

    `message`: each message of the only input is a window of its cells, `length` of them (`windower_message`).
    """

    kind: str
    inputs: tuple[Input, ...]
    """Column order of the model."""
    step_ns: int
    length: int
    """Rows of a window."""
    hop: int
    """Grid: rows from one window's end to the next one's."""
    lateness_ns: int
    trigger: int = 0
    """Tag id of a part counter, or of a text that changes with the part; between: of the start."""
    trigger_connection: int = 0
    max_length_ns: int = 0
    """Cycles: one whose samples span more is refused (`too_long`), older samples are forgotten. 0: no limit."""
    context: tuple[tuple[str, int], ...] = ()
    """Field name -> tag id: the value in force at the window's end. A field without one is left out."""
    stop: int = 0
    """Between: tag id of the stop; 0: the start's tag, when it is active no more."""
    stop_connection: int = 0
    shape: tuple[int, ...] = ()
    """Message: of its array, or rows, columns and channels of its image; `length` is their product."""

    def __post_init__(self) -> None:
        """Check at the border, trust inside."""
        problems = [*self._problems(), *(p for one in self.inputs for p in one.problems())]
        if problems:
            raise ValueError("; ".join(problems))

    def _problems(self) -> Iterator[str]:
        if self.kind not in KINDS:
            yield f"kind is {self.kind!r}, must be one of {', '.join(KINDS)}"
        if not 1 <= len(self.inputs) <= MAX_INPUTS:
            yield f"there are {len(self.inputs)} inputs, must be from 1 to {MAX_INPUTS}"
        if self.length < 1 or self.length * max(1, len(self.inputs)) > MAX_CELLS:
            yield f"length is {self.length}: a window must have from 1 to {MAX_CELLS} cells"
        if self.lateness_ns < 0 or self.max_length_ns < 0:
            yield "lateness_ns and max_length_ns must not be negative"
        if self.kind == "grid" and (self.step_ns < 1 or self.hop < 1):
            yield f"a grid needs step_ns and hop of at least 1, not {self.step_ns} and {self.hop}"
        if self.kind == "message" and (len(self.inputs) != 1 or not self.shape or math.prod(self.shape) != self.length):
            yield f"a message window has one input and a shape of {self.length} cells, not {list(self.shape)}"
        if self.kind in CYCLES and any(one.resample in {"mean", "min", "max"} for one in self.inputs):
            yield f"a {self.kind} window interpolates its samples: resample mean, min and max are for grids"


@dataclass(frozen=True, slots=True)
class Windows:
    """What one feed closed: n windows over one block of rows, so that overlapping ones travel once (see `cut`).

    Refused windows (tombstones) are among them, each with its sequence number; their rows are in the block, NaN with
    a Bad status in each cell that could not be filled.
    """

    block: NDArray[np.float64]
    """Shape (rows, inputs)."""
    status: NDArray[np.uint32]
    """Shape (rows, inputs): the status of each resampled cell."""
    first_row: NDArray[np.int64]
    """Shape (n,): window i is `block[first_row[i] : first_row[i] + length]`."""
    length: int
    start_time: NDArray[np.int64]
    """Shape (n,), ns: exclusive start; for a trigger the time of the previous change."""
    end_time: NDArray[np.int64]
    """Shape (n,), ns: inclusive end; the last row's time on a grid, the change's time for a trigger."""
    sequence: NDArray[np.int64]
    """Shape (n,): 1, 2, 3… per windower, refused ones included."""
    quality: NDArray[np.uint32]
    """Shape (n,): the worst status over the window; Bad when it is refused."""
    refused: tuple[tuple[int, str], ...]
    """(index, reason): a snake_case word, a colon and the tag id, e.g. `gap:17`; `bad_status`, `not_finite`,
    `wrong_type`, `no_data`, `too_long`, `no_stop`. Two carry something else: `part_missed:COUNT` (or `FIRST-LAST` when
    many counts share one), `skipped:ROWS` (see `windower_grid`)."""
    context: tuple[dict[str, object], ...]
    """One per window; empty when the spec has no context."""
    newest: int
    """ns: the newest source time at or before the last window's end."""

    def __len__(self) -> int:
        """The number of windows."""
        return len(self.sequence)

    def picked(self, which: NDArray[np.bool_]) -> Windows:
        """Some of them, shape (n,); the rows that they are cut from stay."""
        rows = np.flatnonzero(which)
        place = {int(row): i for i, row in enumerate(rows)}
        return replace(
            self,
            first_row=self.first_row[rows],
            start_time=self.start_time[rows],
            end_time=self.end_time[rows],
            sequence=self.sequence[rows],
            quality=self.quality[rows],
            refused=tuple((place[row], why) for row, why in self.refused if row in place),
            context=tuple(self.context[row] for row in rows) if self.context else (),
        )


def cut(windows: Windows) -> NDArray[np.float64]:
    """The windows as one tensor of shape (n, length, inputs), refused ones included.

    A read-only view by stride where they are evenly hopped, else a gather.
    """
    first, length = windows.first_row, windows.length
    n, columns = len(first), windows.block.shape[1]
    if n == 0:
        return np.empty((0, length, columns))
    hop = int(first[1] - first[0]) if n > 1 else 0
    if hop >= 0 and (np.diff(first) == hop).all():
        block = np.ascontiguousarray(windows.block)[int(first[0]):]
        row, cell = block.strides
        return as_strided(block, (n, length, columns), (hop * row, row, cell), writeable=False)
    gathered: NDArray[np.float64] = windows.block[first[:, None] + np.arange(length)]
    return gathered


__all__ = ["Input", "Spec", "Windows", "cut"]
