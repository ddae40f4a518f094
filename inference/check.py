"""The activation check of a model on a device: golden vectors, placement and latency, before a pipeline may use it."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from inference import InferenceError
from inference.chip import Text
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
    failures: tuple[Text, ...]
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


def _placement_failures(placement: Placement) -> list[Text]:
    if placement.on_device == placement.nodes and not placement.fallen_back:
        return []
    names = ", ".join(placement.fallen_back[:10])
    count = placement.nodes - placement.on_device
    return [Text(
        f"{count} of {placement.nodes} nodes are not on the device: {names}. See headrace lint-model, or name another "
        "device",
        f"{placement.nodes} 个节点中有 {count} 个不在该设备上：{names}。请用 headrace lint-model 查看，或指定其他设备",
    )]


def _latency_failures(latency: tuple[Latency, ...], p99_limit_s: float | None) -> list[Text]:
    failures = []
    for each in latency:
        if each.runs < _FEWEST:
            failures.append(Text(
                f"only {each.runs} runs at batch {each.batch} within the time of the check: too slow to judge. Take a "
                "smaller model or another device",
                f"在检查时间内，批量 {each.batch} 只运行了 {each.runs} 次：太慢，无法评判。请改用更小的模型或其他设备",
            ))
        if p99_limit_s is not None and each.p99_ns > p99_limit_s * 1e9:
            p99, most = f"{each.p99_ns / 1e6:.3g}", f"{p99_limit_s * 1e3:.3g}"
            failures.append(Text(
                f"p99 at batch {each.batch} is {p99} ms, allowed {most} ms. Free the device of other work, or allow "
                "more",
                f"批量 {each.batch} 的 p99 为 {p99} ms，允许 {most} ms。请减轻该设备的其他负载，或放宽限值",
            ))
    return failures


def _golden_failures(differences: tuple[Difference, ...], precision: str) -> list[Text]:
    failures = []
    for each in differences:
        if each.passed:
            continue
        if not each.finite:
            failures.append(Text(
                f"output {each.name!r}: not finite. In half precision that is an overflow: take fp32, or scale its "
                "inputs inside the model",
                f"输出 {each.name!r}：不是有限值。半精度下这是溢出：请改用 fp32，或在模型内缩放输入",
            ))
        elif math.isnan(each.max_abs):
            zh = each.reason.replace(", expected ", "，应为 ").replace("other values", "值不同")
            failures.append(Text(
                f"output {each.name!r}: {each.reason}. The device computes another thing: name another one",
                f"输出 {each.name!r}：{zh}。该设备的计算结果不同：请指定其他设备",
            ))
        else:
            limit = f"{each.atol:g} + {each.rtol:g}·|y|"
            failures.append(Text(
                f"output {each.name!r}: {each.reason}, allowed {limit} ({precision}). Name another device or "
                "precision; what your process can bear beyond that belongs into the package's golden.npz as tol/NAME",
                f"输出 {each.name!r}：最大相差 {each.max_abs:.3g}，允许 {limit}（{precision}）。请指定其他设备或精度；"
                "工艺可承受的更大误差请写入模型包 golden.npz 的 tol/名称",
            ))
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
        failures.append(Text(
            "there are no golden vectors to hold the model to: add a golden.npz to its package",
            "没有可供比对的黄金向量：请在模型包中加入 golden.npz",
        ))
    else:
        golden = read(model.golden)
        try:
            differences = compare(golden, session.run(golden.inputs), precision)
            latency = _latencies(session, model, golden, batch=batch, runs=runs, budget_s=budget_s)
        except InferenceError as error:
            failures.append(Text(
                f"the run failed: {error}. See to the device, then check again",
                f"运行失败：{error}。请检查设备后重新检查",
            ))
    failures += _golden_failures(differences, precision)
    failures += _latency_failures(latency, p99_limit_s)
    mode = getattr(session, "batching", None)
    return Verdict(
        model.digest, device, precision, tuple(failures), differences, golden.made_by if golden else "", latency,
        session.placement, f"{mode.mode}: {mode.reason}".rstrip(": ") if mode is not None else "unknown",
    )
