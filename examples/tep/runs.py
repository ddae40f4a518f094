"""Simulated runs for training and test: fixed seeds, one file per run in a cache, both cores at work."""

from __future__ import annotations

import hashlib
import multiprocessing
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from examples.tep.process import CONTROL_INTERVAL_H, Process
from examples.tep.tags import COLUMNS, FAULTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

RECORD_STEPS: Final = 8
"""Control intervals per record: 0.02 plant h, what the demonstration publishes every 200 ms at speed 360."""
RECORD_H: Final = RECORD_STEPS * CONTROL_INTERVAL_H
ROLES: Final = ("train", "calibration", "test")
NORMAL_HOURS: Final = 24.0
CACHE_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Plan:
    """One run to be simulated."""

    role: str
    """`train`, `calibration` or `test`: no seed is shared between them."""
    fault: int
    """0 for a normal run, else the number of the IDV."""
    number: int
    hours: float
    onset_h: float
    """When the fault is switched on; without meaning in a normal run."""

    @property
    def seed(self) -> int:
        """A seed that no other run has."""
        text = f"{self.role}/{self.fault}/{self.number}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") // 2


@dataclass(frozen=True, slots=True)
class Run:
    """A simulated run."""

    plan: Plan
    values: NDArray[np.float32]
    """Shape (records, 53), `RECORD_H` apart, from plant time 0 to the end or the trip."""


def simulate(plan: Plan) -> NDArray[np.float32]:
    """Run the plant from the steady state to the plan's end or its trip. Shape (records, 53)."""
    process = Process(plan.seed)
    records = [process.values]
    while process.time_h < plan.hours - CONTROL_INTERVAL_H / 2 and process.trip is None:
        if plan.fault and process.time_h >= plan.onset_h - CONTROL_INTERVAL_H / 2:
            process.faults[plan.fault - 1] = 1.0
        for _ in range(RECORD_STEPS):
            process.step()
        records.append(process.values)
    return np.asarray(records, dtype=np.float32).reshape(-1, len(COLUMNS))


def cache_folder() -> Path:
    """Where runs are kept between trainings: outside the sources, removed with the system's temporary files."""
    folder = Path(tempfile.gettempdir()) / f"headrace-tep-runs-{CACHE_VERSION}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def load(plan: Plan) -> Run:
    """The run of this plan, from the cache or simulated and put there."""
    key = f"{plan.role}-{plan.fault:02d}-{plan.number:03d}-{plan.hours:g}-{plan.onset_h:g}"
    path = cache_folder() / f"{key}.npy"
    if not path.exists():
        partial = path.with_suffix(".part.npy")
        np.save(partial, simulate(plan))
        partial.replace(path)
    return Run(plan, np.load(path))


def load_all(plans: Sequence[Plan], processes: int = 2) -> Iterator[Run]:
    """Every run, in the order of the plans, simulated in parallel where the cache has none."""
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap(load, plans, chunksize=4)


def plans(role: str, normal: int, per_fault: int, hours: float) -> list[Plan]:
    """The runs of one role: `normal` runs without a fault, `per_fault` of each of the 28, `hours` long from the onset.

    The onset moves from run to run, so that no model can learn when faults are usual.
    """
    quiet = [Plan(role, 0, i, NORMAL_HOURS, 0.0) for i in range(normal)]
    onsets = [1.0 + 0.5 * i for i in range(per_fault)]
    faults = range(1, len(FAULTS) + 1)
    faulty = [Plan(role, fault, i, onset + hours, onset) for fault in faults for i, onset in enumerate(onsets)]
    return quiet + faulty
