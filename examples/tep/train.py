"""Trains the fault detector on simulated runs, writes the model package and the figures of the README.

One command, from nothing: `python -m examples.tep.train`. Runs are simulated on two cores and kept in a cache outside
the sources.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from sklearn.covariance import LedoitWolf
from sklearn.neural_network import MLPClassifier

from examples import package
from examples.tep import baseline, report
from examples.tep.detector import (
    CLASSES,
    WHITE_LIMIT,
    Classifier,
    Limits,
    Scale,
    Whitening,
    detector_model,
    scale_of,
    statistics_model,
    whitened_model,
)
from examples.tep.manifest import manifest
from examples.tep.runs import Plan, load_all, plans
from examples.tep.tags import COLUMNS
from examples.tep.windows import LENGTH, TRANSITION_H, Windows, cut, join

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

FOLDER: Final = Path(__file__).parent
TARGET_RATE: Final = 0.008
"""False alarms on the calibration runs; a little below the 1 % that the test runs must keep."""
BATCH: Final = 8192
HIDDEN: Final = (96,)
PENALTY: Final = 4.0
EPOCHS: Final = 20
SEED: Final = 7
PLANS: Final = {
    "train": plans("train", normal=80, per_fault=8, hours=16.0),
    "calibration": plans("calibration", normal=80, per_fault=0, hours=16.0),
    "test": plans("test", normal=40, per_fault=5, hours=20.0),
}


@dataclass(frozen=True, slots=True)
class Clock:
    """Tells how far the training has come."""

    began: float

    def say(self, what: str) -> None:
        """Print one line of progress with the seconds since the beginning."""
        print(f"{time.monotonic() - self.began:6.0f} s  {what}", flush=True)  # noqa: T201 - a command's progress


def windows_of(role: str, clock: Clock) -> Windows:
    """Every window of a role's runs, simulated where the cache has none."""
    chosen: list[Plan] = PLANS[role]
    parts = []
    for i, run in enumerate(load_all(chosen)):
        parts.append(cut(run, i))
        if (i + 1) % 40 == 0:
            clock.say(f"{role}: {i + 1} of {len(chosen)} runs")
    return join(parts)


def compute(model: onnx.ModelProto, windows: NDArray[np.float32], output: str) -> NDArray[np.generic]:
    """One output of a graph for every window, batch by batch."""
    parts = [package.run(model, {"window": windows[i : i + BATCH]})[output] for i in range(0, len(windows), BATCH)]
    return np.concatenate(parts)


def fit_whitening(scale: Scale, normal: NDArray[np.float32]) -> Whitening:
    """Scale and whiten the statistics of normal windows, with a covariance shrunk as Ledoit and Wolf (2004) do."""
    statistics = compute(statistics_model(scale), normal, "statistics").astype(np.float64)
    columns = scale_of(statistics, floor=1e-3)
    scaled = np.clip((statistics - columns.shift) / columns.scale, -10.0, 10.0)
    centre = scaled.mean(axis=0)
    covariance = LedoitWolf(assume_centered=True).fit(scaled - centre).covariance_
    variances, vectors = np.linalg.eigh(covariance)
    return Whitening(columns, centre, vectors / np.sqrt(variances))


def fit_classifier(white: NDArray[np.float32], fault: NDArray[np.int64]) -> Classifier:
    """A perceptron with one hidden layer, its weights held small."""
    network = MLPClassifier(HIDDEN, alpha=PENALTY, batch_size=512, random_state=SEED)
    clipped = np.clip(white, -WHITE_LIMIT, WHITE_LIMIT)
    order = np.random.default_rng(SEED)
    for _ in range(EPOCHS):
        shuffled = order.permutation(len(fault))
        network.partial_fit(clipped[shuffled], fault[shuffled], classes=np.arange(CLASSES))
    return Classifier(network.coefs_, network.intercepts_)


def fit_detector(train: Windows, calibration: Windows, clock: Clock) -> onnx.ModelProto:
    """The detector with its limits set on the calibration runs."""
    normal = train.x[train.fault == 0]
    scale = scale_of(normal.reshape(-1, len(COLUMNS)), floor=0.0)
    whitening = fit_whitening(scale, normal)
    clock.say("statistics whitened")
    learned = train.where((train.fault == 0) | (train.since_h > TRANSITION_H))
    white = compute(whitened_model(scale, whitening), learned.x, "whitened")
    classifier = fit_classifier(white.astype(np.float32), learned.fault)
    clock.say("classifier fitted")
    probe = detector_model(scale, whitening, classifier, Limits(distance=1.0, log_odds=0.0))
    white = compute(whitened_model(scale, whitening), calibration.x, "whitened").astype(np.float64)
    probability = compute(probe, calibration.x, "probabilities").astype(np.float64)
    odds = np.log(np.maximum(probability[:, 1:].sum(axis=1), 1e-30)) - np.log(np.maximum(probability[:, 0], 1e-30))
    found = baseline.limits(np.stack([(white**2).sum(axis=1), odds]), TARGET_RATE)
    return detector_model(scale, whitening, classifier, Limits(float(found[0]), float(found[1])))


def baseline_alarms(train: Windows, calibration: Windows, test: Windows, *, whole_window: bool) -> NDArray[np.bool_]:
    """Alarms of PCA T²/SPE on the test windows: on the window's last row, or on the whole window (dynamic PCA)."""
    normal = train.x[train.fault == 0]
    scale = scale_of(normal.reshape(-1, len(COLUMNS)), floor=0.0)

    def rows(windows: NDArray[np.float32]) -> NDArray[np.float32]:
        chosen = windows if whole_window else windows[:, -1:]
        return ((chosen - scale.shift) / scale.scale).astype(np.float32).reshape(len(windows), -1)

    model = baseline.fit(rows(normal))
    limit = baseline.limits(model.statistics(rows(calibration.x)), TARGET_RATE)
    return np.asarray((model.statistics(rows(test.x)) > limit[:, None]).any(axis=0))


def golden_windows(test: Windows, score: NDArray[np.floating]) -> NDArray[np.float32]:
    """Windows for the golden vectors: some normal, one per fault where it is seen, none close to the limit."""
    clear = np.abs(np.log(np.maximum(score, 1e-6))) > 0.1  # noqa: PLR2004 - a tenth away from the limit
    chosen = [int(i) for i in np.flatnonzero(clear & (test.fault == 0))[::1500][:6]]
    for fault in range(1, test.fault.max() + 1):
        seen = np.flatnonzero(clear & (test.fault == fault) & (score > 1.0))
        chosen += [int(seen[len(seen) // 2])] if len(seen) else []
    return test.x[chosen]


def main() -> None:
    """Train, test, write."""
    clock = Clock(time.monotonic())
    train, calibration, test = (windows_of(role, clock) for role in PLANS)
    clock.say(f"windows of {LENGTH} rows: {len(train.x)} train, {len(calibration.x)} calibration, {len(test.x)} test")
    model = fit_detector(train, calibration, clock)
    score = compute(model, test.x, "score").astype(np.float64)
    named = compute(model, test.x, "fault").astype(np.int64)
    static = baseline_alarms(train, calibration, test, whole_window=False)
    dynamic = baseline_alarms(train, calibration, test, whole_window=True)
    clock.say("baselines fitted")
    feeds = {"window": golden_windows(test, score)}
    tolerances = {"score": (1e-3, 1e-3), "fault": (0.0, 0.0), "probabilities": (1e-3, 1e-4)}
    package.write(FOLDER / "package", model, manifest(), feeds, tolerances)
    results = report.Results(test, score > 1.0, named, static, dynamic, time.monotonic() - clock.began)
    report.write(FOLDER, results, len(train.x), len(calibration.x))
    clock.say(report.summary(results))


if __name__ == "__main__":
    main()
