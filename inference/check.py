"""The activation check of a model on a device: golden vectors, placement and latency, before a pipeline may use it."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from inference import InferenceError
from inference.golden import Golden, compare, read

if TYPE_CHECKING:
    from collections.abc import Mapping

    from inference import Device, Model, Placement, Session, Tensor
    from inference.golden import Difference

_WARM: Final = 5
_FEWEST: Final = 20
"""Runs below which a p99 says nothing; a model too slow for them within the budget fails its check."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Of `session.run`, in ns, at one batch size."""

    batch: int
    runs: int
    p50_ns: int
    p99_ns: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the check found; `failures` is empty exactly when it passed."""

    model: str
    device: Device
    precision: str
    failures: tuple[str, ...]
    golden: tuple[Difference, ...]
    golden_made_by: str
    """`the package`, or the runtime that made them at import: then they show agreement with it, not truth."""
    latency: tuple[Latency, ...]
    placement: Placement
    batching: str

    @property
    def passed(self) -> bool:
        """True if nothing failed."""
        return not self.failures

    def as_dict(self) -> dict[str, Any]:
        """For a record; NaN stands where a difference cannot be said."""
        return {**asdict(self), "passed": self.passed}


def _repeated(feeds: Mapping[str, Tensor], model: Model, rows: int) -> dict[str, Tensor]:
    """Golden rows again and again until there are `rows`; what does not count rows is left."""
    batched = {spec.name for spec in model.inputs if spec.shape and spec.shape[0] in (None, 1)}
    return {name: np.resize(value, (rows, *value.shape[1:])) if name in batched else value
            for name, value in feeds.items()}


def _measure(session: Session, feeds: Mapping[str, Tensor], batch: int, runs: int, until: float) -> Latency:
    warm = 0
    while warm < _WARM and (not warm or time.monotonic() < until):
        session.run(feeds)
        warm += 1
    taken: list[int] = []
    while len(taken) < runs and (time.monotonic() < until or not taken):
        start = time.perf_counter_ns()
        session.run(feeds)
        taken.append(time.perf_counter_ns() - start)
    p50, p99 = np.percentile(taken, (50, 99))
    return Latency(batch, len(taken), int(p50), int(p99))


def _latencies(
    session: Session, model: Model, golden: Golden, *, batch: int, runs: int, budget_s: float
) -> tuple[Latency, ...]:
    mode = getattr(session, "batching", None)
    if mode is not None and mode.mode == "whole":
        rows = max((len(value) for value in golden.inputs.values() if value.ndim), default=1)
        return (_measure(session, golden.inputs, rows, runs, time.monotonic() + budget_s),)
    return tuple(
        _measure(session, _repeated(golden.inputs, model, size), size, runs, time.monotonic() + budget_s / 2)
        for size in dict.fromkeys((1, batch))
    )


def _placement_failures(placement: Placement) -> list[str]:
    if placement.on_device == placement.nodes and not placement.fallen_back:
        return []
    names = ", ".join(placement.fallen_back[:10])
    return [f"{placement.nodes - placement.on_device} of {placement.nodes} nodes are not on the device: {names}"]


def _latency_failures(latency: tuple[Latency, ...], p99_limit_s: float | None) -> list[str]:
    failures = []
    for each in latency:
        at = f"at batch {each.batch}"
        if each.runs < _FEWEST:
            failures.append(f"only {each.runs} runs {at} within the time of the check: too slow to judge")
        if p99_limit_s is not None and each.p99_ns > p99_limit_s * 1e9:
            failures.append(f"p99 {at} is {each.p99_ns / 1e6:.3g} ms, allowed {p99_limit_s * 1e3:.3g} ms")
    return failures


def verify(
    model: Model, device: Device, session: Session, *, precision: str = "fp32", batch: int = 64, runs: int = 200,
    budget_s: float = 20.0, p99_limit_s: float | None = None,
) -> Verdict:
    """Check a prepared session. Never raises for what the model or device does wrong: that is the verdict."""
    failures = _placement_failures(session.placement)
    differences: tuple[Difference, ...] = ()
    latency: tuple[Latency, ...] = ()
    golden = None
    if model.golden is None:
        failures.append("there are no golden vectors to hold the model to: add a golden.npz to its package")
    else:
        golden = read(model.golden)
        try:
            differences = compare(golden, session.run(golden.inputs), precision)
            latency = _latencies(session, model, golden, batch=batch, runs=runs, budget_s=budget_s)
        except InferenceError as error:
            failures.append(f"the run failed: {error}")
    failures += [f"output {each.name!r}: {each.reason}" for each in differences if not each.passed]
    failures += _latency_failures(latency, p99_limit_s)
    mode = getattr(session, "batching", None)
    return Verdict(
        model.digest, device, precision, tuple(failures), differences, golden.made_by if golden else "", latency,
        session.placement, f"{mode.mode}: {mode.reason}".rstrip(": ") if mode is not None else "unknown",
    )
