"""Trains the judge of tightening curves, writes its model package and the figures of the README.

One command: `python -m examples.tightening.train`. The curves come from the same physical description as the
recording, with other seeds.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import onnx
from sklearn.neural_network import MLPClassifier

from examples import package
from examples.graph import Graph
from examples.tightening.curves import OK, RECIPES, SAMPLE_S, SAMPLES, VERDICTS, curve, window_check

if TYPE_CHECKING:
    from numpy.typing import NDArray

FOLDER: Final = Path(__file__).parent
SEEDS: Final = {"train": 11, "calibration": 12, "test": 13}
SIZES: Final = {"train": 2400, "calibration": 2400, "test": 3000}
OK_SHARE: Final = {"train": 0.4, "calibration": 1.0, "test": 0.5}
TARGET_RATE: Final = 0.005
SEED: Final = 1
HIDDEN: Final = (48,)
PENALTY: Final = 0.3
EPOCHS: Final = 60
SCALE: Final = (10.0, 400.0)
"""Nm and degrees that are one unit to the classifier."""
ODDS_UNIT: Final = 4.0
SCORE_MAX: Final = 100.0
CLASSES: Final = len(VERDICTS)
BEGIN: Final = "<!-- figures: written by python -m examples.tightening.train -->"
END: Final = "<!-- end of figures -->"


@dataclass(frozen=True, slots=True)
class Curves:
    """Curves with what they are."""

    x: NDArray[np.float32]
    """Shape (n, 128, 2): torque in Nm, angle in degrees."""
    verdict: NDArray[np.int64]
    station_ok: NDArray[np.bool_]
    """What the station's own window check says."""


def make(role: str) -> Curves:
    """The curves of a role, always the same ones."""
    random = np.random.default_rng(SEEDS[role])
    sound = random.random(SIZES[role]) < OK_SHARE[role]
    verdict = np.where(sound, OK, random.integers(1, CLASSES, SIZES[role]))
    recipe = [RECIPES[i] for i in random.integers(0, len(RECIPES), SIZES[role])]
    x = np.stack([curve(random, r, int(v)) for r, v in zip(recipe, verdict, strict=True)])
    return Curves(x, verdict, np.asarray([window_check(c, r) for c, r in zip(x, recipe, strict=True)]))


def _features(graph: Graph) -> str:
    """The scaled curve and how rough its torque is: shape (n, 256 + 126). A head that sticks and slips is rough."""
    scaled = graph.node("Div", "curve", graph.constant(np.asarray(SCALE)))
    axes = graph.constant([1, 2])

    def torque(start: int, end: int) -> str:
        return graph.node("Slice", "curve", graph.constant([start, 0]), graph.constant([end, 1]), axes)

    outer = graph.node("Add", torque(0, SAMPLES - 2), torque(2, SAMPLES))
    bend = graph.node("Sub", outer, graph.node("Mul", torque(1, SAMPLES - 1), graph.constant(2.0)))
    rough = graph.node("Flatten", graph.node("Sqrt", graph.node("Abs", bend)), axis=1)
    return graph.node("Concat", graph.node("Flatten", scaled, axis=1), rough, axis=1, name="features")


def features_model() -> onnx.ModelProto:
    """A graph of the features only, for fitting what follows them."""
    graph = Graph()
    _features(graph)
    return graph.model("features", _INPUT, {"features": ("float32", (SAMPLES * 2 + SAMPLES - 2,))})


def judge_model(network: MLPClassifier, limit: float) -> onnx.ModelProto:
    """`curve` (n, 128, 2) to `score` (n,), `verdict` (n,), `probabilities` (n, 6)."""
    graph = Graph()
    logits = graph.dense(_features(graph), network.coefs_, network.intercepts_)
    odds = graph.log_odds(graph.node("LogSoftmax", logits, axis=1), CLASSES)
    over = graph.affine(odds, np.asarray(limit), np.asarray(ODDS_UNIT))
    graph.node("Exp", graph.clip(over, float(np.log(SCORE_MAX))), name="score")
    graph.node("Softmax", logits, axis=1, name="probabilities")
    defects = graph.node("Slice", logits, graph.constant([1]), graph.constant([CLASSES]), graph.constant([1]))
    likeliest = graph.node("Add", graph.node("ArgMax", defects, axis=1, keepdims=0), graph.constant(1))
    alarm = graph.node("Cast", graph.node("Greater", "score", graph.constant(1.0)), to=onnx.TensorProto.INT64)
    graph.node("Mul", likeliest, alarm, name="verdict")
    outputs = {"score": ("float32", ()), "verdict": ("int64", ()), "probabilities": ("float32", (CLASSES,))}
    return graph.model("tightening-judge", _INPUT, outputs)


def fit(train: Curves, calibration: Curves) -> onnx.ModelProto:
    """The judge with its limit set so that at most 0.5 % of sound joints are called defective."""
    network = MLPClassifier(HIDDEN, alpha=PENALTY, batch_size=64, random_state=SEED)
    features = package.run(features_model(), {"curve": train.x})["features"]
    order = np.random.default_rng(SEED)
    for _ in range(EPOCHS):
        shuffled = order.permutation(len(features))
        network.partial_fit(features[shuffled], train.verdict[shuffled], classes=np.arange(CLASSES))
    score = package.run(judge_model(network, 0.0), {"curve": calibration.x})["score"].astype(np.float64)
    return judge_model(network, float(ODDS_UNIT * np.log(np.quantile(score, 1.0 - TARGET_RATE))))


_INPUT: Final = {"curve": (SAMPLES, 2)}


def manifest() -> dict[str, object]:
    """`model.yaml` as plain data."""
    columns = [{"tag": "torque", "unit": "Nm", "meaning": "torque"}, {"tag": "angle", "unit": "°", "meaning": "angle"}]
    return {
        "name": "tightening-judge",
        "version": "1.0.0",
        "description": "Judges torque/angle curves of M8 and M6 joints and names the defect",
        "licence": "Apache-2.0",
        "author": "The Headrace authors",
        "inputs": [
            {
                "name": "curve",
                "dtype": "float32",
                "shape": [None, SAMPLES, 2],
                "unit": "mixed",
                "columns": columns,
                "meaning": "one cycle, resampled linearly to 128 points 10 ms apart that end with its last sample",
            },
        ],
        "outputs": [
            {
                "name": "score",
                "dtype": "float32",
                "shape": [None],
                "unit": "1",
                "limit": 1.0,
                "meaning": "how little the curve looks like a sound joint; above 1 it is called defective",
            },
            {
                "name": "verdict",
                "dtype": "int64",
                "shape": [None],
                "unit": "1",
                "classes": list(VERDICTS),
                "meaning": "0 while the score is at most 1, else the likeliest defect",
            },
            {
                "name": "probabilities",
                "dtype": "float32",
                "shape": [None, CLASSES],
                "unit": "1",
                "classes": list(VERDICTS),
                "meaning": "the classifier's probability of each class, uncalibrated",
            },
        ],
        "window": {
            "kind": "trigger",
            "trigger": "counter",
            "step_s": SAMPLE_S,
            "length": SAMPLES,
            "resample": "linear",
        },
        "quality": {"uncertain": "refuse", "bad": "refuse", "hold_s": 0.0},
    }


def table(test: Curves, verdict: NDArray[np.int64], words: tuple[str, ...]) -> str:
    """The figures on the test curves as a Markdown table; `words` are the heading and the classes' names."""
    lines = [words[0], "|---|---:|---:|---:|---:|"]
    for number, name in enumerate(words[1:]):
        of = test.verdict == number
        called = float((verdict[of] != OK).mean())
        right = float((verdict[of] == number).mean())
        station = float((~test.station_ok[of]).mean())
        lines.append(f"| {name} | {of.sum()} | {called:.1%} | {right:.1%} | {station:.1%} |")
    return "\n".join(lines)


HEADS: Final = {
    "README.md": ("| joint | test curves | called defective | verdict right | station's own check: NOK |", *VERDICTS),
    "README.zh-CN.md": (
        "| 接头 | 测试曲线 | 判为缺陷 | 判定正确 | 工位自检 NOK |",
        "合格",
        "错牙",
        "滑牙",
        "粘滑",
        "无螺钉",
        "屈服",
    ),
}
ACCURACY: Final = {
    "README.md": "Accuracy over all {n} test curves: {rate:.1%}.",
    "README.zh-CN.md": "{n} 条测试曲线的总准确率：{rate:.1%}。",
}


def write_figures(test: Curves, verdict: NDArray[np.int64]) -> None:
    """Put the figures between the marks of both README files."""
    rate = float((verdict == test.verdict).mean())
    for name, words in HEADS.items():
        path = FOLDER / name
        before, rest = path.read_text(encoding="utf-8").split(BEGIN)
        figures = f"{table(test, verdict, words)}\n\n{ACCURACY[name].format(n=len(test.x), rate=rate)}"
        path.write_text(f"{before}{BEGIN}\n\n{figures}\n\n{END}{rest.split(END)[1]}", encoding="utf-8")


def golden_curves(test: Curves, score: NDArray[np.floating]) -> NDArray[np.float32]:
    """Four curves of each class, none close to the limit."""
    clear = np.abs(np.log(score)) > 0.1  # noqa: PLR2004 - a tenth away from the limit
    chosen = [i for number in range(CLASSES) for i in np.flatnonzero(clear & (test.verdict == number))[:4]]
    return test.x[chosen]


def main() -> None:
    """Train, test, write."""
    began = time.monotonic()
    train, calibration, test = (make(role) for role in SEEDS)
    print(f"{time.monotonic() - began:6.0f} s  curves made", flush=True)  # noqa: T201 - a command's progress
    model = fit(train, calibration)
    answers = package.run(model, {"curve": test.x})
    verdict = answers["verdict"].astype(np.int64)
    feeds = {"curve": golden_curves(test, answers["score"].astype(np.float64))}
    tolerances = {"score": (1e-3, 1e-3), "verdict": (0.0, 0.0), "probabilities": (1e-3, 1e-4)}
    package.write(FOLDER / "package", model, manifest(), feeds, tolerances)
    write_figures(test, verdict)
    print(table(test, verdict, HEADS["README.md"]))  # noqa: T201 - a command's progress
    print(f"{time.monotonic() - began:6.0f} s  done", flush=True)  # noqa: T201 - a command's progress


if __name__ == "__main__":
    main()
