"""The fault detector as an ONNX graph: statistics of a window, whitened on normal operation, then two judges.

For each of the 53 tags the graph takes four statistics of the window: mean, slope, roughness of what the slope leaves,
roughness of the differences. On normal runs these are correlated, and what a fault breaks first is a correlation:
so they are whitened with the covariance of normal operation. The first judge is the Mahalanobis distance (T² with all
components kept); the second is a small classifier of the 28 faults on the whitened statistics. Each is divided by its
limit, and the larger of the two is the score.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import onnx

from examples.graph import Graph
from examples.tep.tags import COLUMNS, FAULTS
from examples.tep.windows import LENGTH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

CLASSES: Final = len(FAULTS) + 1
Z_LIMIT: Final = 30.0
STATISTIC_LIMIT: Final = 10.0
WHITE_LIMIT: Final = 15.0
FLOOR: Final = 1e-3
ODDS_UNIT: Final = 8.0
"""Log odds that make the score e times as large."""
SCORE_MAX: Final = 400.0
"""Scores end here, so that half precision holds them."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Shift and scale per column."""

    shift: NDArray[np.float64]
    scale: NDArray[np.float64]


def scale_of(rows: NDArray[np.floating], floor: float) -> Scale:
    """Mean and standard deviation per column of shape (n, columns). A column that never moves is left unscaled."""
    deviation = rows.std(axis=0, dtype=np.float64)
    return Scale(rows.mean(axis=0, dtype=np.float64), np.where(deviation > 1e-5, deviation, 1.0) + floor)  # noqa: PLR2004


@dataclass(frozen=True, slots=True)
class Whitening:
    """Statistics to uncorrelated ones: clip((s - shift) / scale) minus `centre`, times `matrix`."""

    statistics: Scale
    centre: NDArray[np.float64]
    matrix: NDArray[np.float64]
    """Shape (212, 212)."""


@dataclass(frozen=True, slots=True)
class Classifier:
    """A multilayer perceptron over the whitened statistics, class 0 normal."""

    weights: Sequence[NDArray[np.floating]]
    biases: Sequence[NDArray[np.floating]]


@dataclass(frozen=True, slots=True)
class Limits:
    """Where each judge's alarm begins."""

    distance: float
    log_odds: float


def _statistics(graph: Graph, window: str, scale: Scale) -> str:
    """Four statistics per tag, shape (n, 212)."""
    z = graph.clip(graph.affine(window, scale.shift, scale.scale), Z_LIMIT)
    mean = graph.node("ReduceMean", z, axes=[1], keepdims=1)
    centred = graph.node("Sub", z, mean)
    ramp = (np.arange(LENGTH) - (LENGTH - 1) / 2.0).reshape(1, LENGTH, 1)
    along = graph.node("Mul", centred, graph.constant(ramp / np.sum(ramp**2)))
    slope = graph.node("ReduceSum", along, graph.constant([1]), keepdims=1)
    rest = graph.node("Sub", centred, graph.node("Mul", slope, graph.constant(ramp)))
    axis, one, ends = graph.constant([1]), graph.constant([1]), graph.constant([LENGTH])
    later = graph.node("Slice", z, one, ends, axis)
    earlier = graph.node("Slice", z, graph.constant([0]), graph.constant([LENGTH - 1]), axis)
    parts = (
        graph.node("Squeeze", mean, axis),
        graph.node("Mul", graph.node("Squeeze", slope, axis), graph.constant(LENGTH / 3.0)),
        graph.log_root_mean_square(rest, FLOOR),
        graph.log_root_mean_square(graph.node("Sub", later, earlier), FLOOR),
    )
    return graph.node("Concat", *parts, axis=1, name="statistics")


def _whitened(graph: Graph, statistics: str, whitening: Whitening) -> str:
    """The statistics made uncorrelated, shape (n, 212)."""
    scaled = graph.affine(statistics, whitening.statistics.shift, whitening.statistics.scale)
    bias = -whitening.centre @ whitening.matrix
    clipped = graph.clip(scaled, STATISTIC_LIMIT)
    return graph.node("Gemm", clipped, graph.constant(whitening.matrix), graph.constant(bias), name="whitened")


def statistics_model(scale: Scale) -> onnx.ModelProto:
    """A graph of the statistics only, for fitting what follows them."""
    graph = Graph()
    _statistics(graph, "window", scale)
    return graph.model("statistics", _INPUT, {"statistics": ("float32", (4 * len(COLUMNS),))})


def whitened_model(scale: Scale, whitening: Whitening) -> onnx.ModelProto:
    """A graph up to the whitened statistics, for fitting the classifier."""
    graph = Graph()
    _whitened(graph, _statistics(graph, "window", scale), whitening)
    return graph.model("whitened", _INPUT, {"whitened": ("float32", (4 * len(COLUMNS),))})


def detector_model(scale: Scale, whitening: Whitening, classifier: Classifier, limits: Limits) -> onnx.ModelProto:
    """The whole detector: `window` (n, 16, 53) to `score` (n,), `fault` (n,), `probabilities` (n, 29)."""
    graph = Graph()
    white = _whitened(graph, _statistics(graph, "window", scale), whitening)
    squares = graph.node("Mul", white, white)
    distance = graph.node("ReduceSum", squares, graph.constant([1]), keepdims=0)
    logits = graph.dense(graph.clip(white, WHITE_LIMIT), classifier.weights, classifier.biases)
    log_probabilities = graph.node("LogSoftmax", logits, axis=1)
    odds = graph.log_odds(log_probabilities, CLASSES)
    over = graph.affine(odds, np.asarray(limits.log_odds), np.asarray(ODDS_UNIT))
    by_class = graph.node("Exp", graph.clip(over, float(np.log(SCORE_MAX))))
    by_distance = graph.node("Div", distance, graph.constant(limits.distance))
    largest = graph.node("Max", by_class, by_distance)
    graph.node("Min", largest, graph.constant(SCORE_MAX), name="score")
    graph.node("Softmax", logits, axis=1, name="probabilities")
    _name_fault(graph, log_probabilities)
    return graph.model(
        "tep-fault-detector",
        _INPUT,
        {"score": ("float32", ()), "fault": ("int64", ()), "probabilities": ("float32", (CLASSES,))},
    )


def _name_fault(graph: Graph, log_probabilities: str) -> None:
    """The likeliest fault where the score is above its limit, else 0."""
    faults = graph.node("Slice", log_probabilities, graph.constant([1]), graph.constant([CLASSES]), graph.constant([1]))
    likeliest = graph.node("Add", graph.node("ArgMax", faults, axis=1, keepdims=0), graph.constant(1))
    alarm = graph.node("Cast", graph.node("Greater", "score", graph.constant(1.0)), to=onnx.TensorProto.INT64)
    graph.node("Mul", likeliest, alarm, name="fault")


_INPUT: Final = {"window": (LENGTH, len(COLUMNS))}
