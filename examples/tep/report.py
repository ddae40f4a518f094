"""Counts what the detector and the baselines did on the test runs; writes the tables of the README in two languages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from examples.tep.tags import FAULTS

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from examples.tep.windows import Windows

IN_A_ROW: Final = 3
"""Alarming windows in a row that make a detection, so that one false alarm does not."""
BEGIN: Final = "<!-- figures: written by python -m examples.tep.train -->"
END: Final = "<!-- end of figures -->"


@dataclass(frozen=True, slots=True)
class Results:
    """What happened on the test windows."""

    test: Windows
    ours: NDArray[np.bool_]
    named: NDArray[np.int64]
    static: NDArray[np.bool_]
    dynamic: NDArray[np.bool_]
    seconds: float


@dataclass(frozen=True, slots=True)
class Row:
    """One fault: shares of windows in alarm, and the median delay in plant minutes (None: seldom detected)."""

    fault: int
    ours: float
    dynamic: float
    static: float
    named: float
    """Share of our alarms that name this very fault."""
    delay: float | None
    delay_dynamic: float | None


def false_alarm_rate(results: Results, alarms: NDArray[np.bool_]) -> float:
    """The share of normal test windows in alarm."""
    return float(alarms[results.test.fault == 0].mean())


def rows(results: Results) -> list[Row]:
    """One row per fault."""
    return [_row(results, fault) for fault in range(1, len(FAULTS) + 1)]


def _row(results: Results, fault: int) -> Row:
    """What was made of one fault."""
    on = results.test.fault == fault
    alarms = on & results.ours
    return Row(
        fault=fault,
        ours=float(results.ours[on].mean()),
        dynamic=float(results.dynamic[on].mean()),
        static=float(results.static[on].mean()),
        named=float((results.named[alarms] == fault).mean()) if alarms.any() else 0.0,
        delay=_delay(results.test, results.ours, fault),
        delay_dynamic=_delay(results.test, results.dynamic, fault),
    )


def _delay(test: Windows, alarms: NDArray[np.bool_], fault: int) -> float | None:
    """Median over the runs of the plant minutes from the onset to the first of three alarms in a row."""
    delays = []
    for run in np.unique(test.run[test.fault == fault]):
        on = (test.fault == fault) & (test.run == run)
        held = np.convolve(alarms[on], np.ones(IN_A_ROW), mode="valid") == IN_A_ROW
        delays.append(60.0 * test.since_h[on][np.argmax(held)] if held.any() else np.inf)
    median = float(np.median(delays))
    return median if np.isfinite(median) else None


def summary(results: Results) -> str:
    """One line: mean detection rates at their false-alarm rates."""
    table = rows(results)
    parts = []
    for name in ("ours", "dynamic", "static"):
        rate = np.mean([getattr(row, name) for row in table])
        parts.append(f"{name} {rate:.1%} at {false_alarm_rate(results, getattr(results, name)):.2%} false alarms")
    return "mean detection over 28 faults: " + "; ".join(parts)


def table(results: Results, words: dict[str, str]) -> str:
    """The table of one language as Markdown."""
    made = rows(results)
    lines = [words["head"], "|---:|---|---:|---:|---:|---:|---:|---:|"]
    lines += [
        f"| {row.fault} | {words[str(row.fault)]} | {row.ours:.1%} | {row.dynamic:.1%} | {row.static:.1%} "
        f"| {_minutes(row.delay)} | {_minutes(row.delay_dynamic)} | {row.named:.0%} |"
        for row in made
    ]
    means = [np.mean([getattr(row, name) for row in made]) for name in ("ours", "dynamic", "static")]
    lines.append(f"| | **{words['mean']}** | **{means[0]:.1%}** | {means[1]:.1%} | {means[2]:.1%} | | | |")
    rates = [false_alarm_rate(results, alarms) for alarms in (results.ours, results.dynamic, results.static)]
    lines.append(f"| | **{words['far']}** | **{rates[0]:.2%}** | {rates[1]:.2%} | {rates[2]:.2%} | | | |")
    return "\n".join(lines)


def _minutes(delay: float | None) -> str:
    """A delay in whole minutes, a dash where there is none."""
    return "–" if delay is None else f"{delay:.0f}"


def write(folder: Path, results: Results, n_train: int, n_calibration: int) -> None:
    """Put the figures between the marks of `README.md` and `README.zh-CN.md`."""
    for name, words in (("README.md", ENGLISH), ("README.zh-CN.md", CHINESE)):
        path = folder / name
        text = path.read_text(encoding="utf-8")
        before, rest = text.split(BEGIN)
        after = rest.split(END)[1]
        facts = words["facts"].format(
            train=n_train, calibration=n_calibration, test=len(results.test.x), minutes=results.seconds / 60.0
        )
        path.write_text(f"{before}{BEGIN}\n\n{facts}\n\n{table(results, words)}\n\n{END}{after}", encoding="utf-8")


ENGLISH: Final = {
    "head": (
        "| IDV | fault | detected, ours | dynamic PCA | PCA | delay, ours (min) | delay, dynamic PCA (min) "
        "| named right |"
    ),
    "mean": "mean of 28",
    "far": "false alarms, normal runs",
    "facts": (
        "{train} windows for training, {calibration} for the limits, {test} for the test; the last training took "
        "{minutes:.1f} minutes."
    ),
} | {str(i): text for i, text in enumerate(FAULTS, start=1)}

CHINESE: Final = {
    "head": (
        "| IDV | 故障 | 检出率（本模型） | 动态 PCA | PCA | 延迟（本模型，分钟） | 延迟（动态 PCA，分钟） "
        "| 命名正确率 |"
    ),
    "mean": "28 个故障的平均值",
    "far": "误报率（正常运行）",
    "facts": (
        "训练窗口 {train} 个，定限窗口 {calibration} 个，测试窗口 {test} 个；最近一次训练用时 {minutes:.1f} 分钟。"
    ),
} | {
    str(i): text
    for i, text in enumerate(
        (
            "物流 4 的 A/C 进料比（阶跃）",
            "物流 4 的 B 组分（阶跃）",
            "D 进料温度（阶跃）",
            "反应器冷却水入口温度（阶跃）",
            "冷凝器冷却水入口温度（阶跃）",
            "A 进料中断（阶跃）",
            "C 总管压力下降（阶跃）",
            "物流 4 的 A、B、C 组分（随机）",
            "D 进料温度（随机）",
            "C 进料温度（随机）",
            "反应器冷却水入口温度（随机）",
            "冷凝器冷却水入口温度（随机）",
            "反应动力学（缓慢漂移）",
            "反应器冷却水阀（粘滞）",
            "冷凝器冷却水阀（粘滞）",
            "汽提塔传热（随机）",
            "反应器传热（随机）",
            "冷凝器传热（随机）",
            "循环、底流和蒸汽阀（粘滞）",
            "未知（随机）",
            "A 进料温度（随机）",
            "E 进料温度（随机）",
            "A 进料压力（随机）",
            "D 进料压力（随机）",
            "E 进料压力（随机）",
            "A 和 C 进料压力（随机）",
            "反应器冷却水压力（随机）",
            "冷凝器冷却水压力（随机）",
        ),
        start=1,
    )
}
