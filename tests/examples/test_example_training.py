"""The training of the example models: statistics, limits, figures, a whole detector fitted on made-up data."""

from __future__ import annotations

import time

import numpy as np
import onnx
import pytest

pytest.importorskip("tep_studio", reason="the extra `demo` is not installed: pip install headrace[demo]")

from typing import TYPE_CHECKING

from examples import package
from examples.graph import Graph
from examples.tep import baseline, report, train
from examples.tep.detector import scale_of, statistics_model
from examples.tep.manifest import manifest
from examples.tep.tags import COLUMNS, FAULTS
from examples.tep.windows import LENGTH, Windows

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

WIDTH = len(COLUMNS)


def made_up(per_class: int, seed: int) -> Windows:
    """Windows of noise, a quarter of them normal; fault k shifts column k by three standard deviations."""
    random = np.random.default_rng(seed)
    classes = np.concatenate([np.zeros(9, dtype=np.int64), np.arange(1, len(FAULTS) + 1)])
    fault = np.repeat(classes, per_class)
    x = random.normal(0.0, 1.0, (len(fault), LENGTH, WIDTH))
    x[np.arange(len(fault)), :, fault] += 3.0 * (fault > 0)[:, None]
    since = np.where(fault > 0, np.tile(np.arange(per_class) * 0.1 + 0.6, len(classes)), np.inf)
    return Windows(x.astype(np.float32), fault, since, fault)


def test_statistics_are_what_they_are_called() -> None:
    """Mean, slope over a third of the window, roughness about the slope and of the differences, as numpy has them."""
    x = np.random.default_rng(1).normal(5.0, 2.0, (3, LENGTH, WIDTH)).astype(np.float32)
    scale = scale_of(x.reshape(-1, WIDTH), floor=0.0)
    got = package.run(statistics_model(scale), {"window": x})["statistics"].reshape(3, 4, WIDTH)
    z = (x - scale.shift) / scale.scale
    steps = np.arange(LENGTH)
    for window in range(3):
        slope, offset = np.polyfit(steps, z[window], 1)
        rest = z[window] - (steps[:, None] * slope + offset)
        differences = np.diff(z[window], axis=0)
        np.testing.assert_allclose(got[window, 0], z[window].mean(axis=0), atol=1e-4)
        np.testing.assert_allclose(got[window, 1], slope * LENGTH / 3.0, atol=1e-4)
        np.testing.assert_allclose(got[window, 2], 0.5 * np.log((rest**2).mean(axis=0) + 1e-3), atol=1e-4)
        np.testing.assert_allclose(got[window, 3], 0.5 * np.log((differences**2).mean(axis=0) + 1e-3), atol=1e-4)


def test_a_column_that_never_moves_is_left_unscaled() -> None:
    """A constant valve divides by one, not by nothing."""
    scale = scale_of(np.array([[1.0, 5.0], [3.0, 5.0]]), floor=0.0)
    np.testing.assert_allclose(scale.shift, [2.0, 5.0])
    np.testing.assert_allclose(scale.scale, [1.0, 1.0])


def test_limits_keep_the_rate_over_all_statistics() -> None:
    """However the statistics depend on one another, at most the wanted share is above any limit, and not far less."""
    random = np.random.default_rng(2)
    shared = random.normal(size=20_000)
    for statistics in (random.normal(size=(2, 20_000)), np.stack([shared, shared * 3.0 + 1.0])):
        limit = baseline.limits(statistics, 0.01)
        rate = (statistics > limit[:, None]).any(axis=0).mean()
        assert 0.009 < rate <= 0.01


def test_principal_components_see_a_broken_correlation() -> None:
    """T² grows along the main direction, SPE across it."""
    random = np.random.default_rng(3)
    main = random.normal(size=(5000, 1))
    rows = np.hstack([main, main]) + random.normal(0.0, 0.1, (5000, 2))
    model = baseline.fit(rows)
    along, across = model.statistics(np.array([[4.0, 4.0], [2.0, -2.0]])).T
    assert model.loadings.shape == (2, 1)
    assert along[0] > 10.0 > across[0]
    assert across[1] > 1.0 > along[1]


def test_a_detector_learns_what_it_is_shown(tmp_path: Path) -> None:
    """Fitted on made-up faults, it detects and names fresh ones, keeps quiet on noise, and its package is written."""
    clock = train.Clock(time.monotonic())
    model = train.fit_detector(made_up(120, 1), made_up(120, 2).where(made_up(120, 2).fault == 0), clock)
    test = made_up(60, 3)
    score = train.compute(model, test.x, "score").astype(np.float64)
    named = train.compute(model, test.x, "fault")
    assert (score[test.fault == 0] > 1.0).mean() < 0.08
    assert (score[test.fault > 0] > 1.0).mean() > 0.9
    alarm = (test.fault > 0) & (score > 1.0)
    assert (named[alarm] == test.fault[alarm]).mean() > 0.9
    feeds = {"window": train.golden_windows(test, score)}
    tolerances = {"score": (1e-3, 1e-3), "fault": (0.0, 0.0), "probabilities": (1e-3, 1e-4)}
    package.write(tmp_path, model, manifest(), feeds, tolerances)
    assert {file.name for file in tmp_path.iterdir()} == {"model.onnx", "model.yaml", "golden.npz"}
    assert onnx.load(tmp_path / "model.onnx") == model


def test_a_package_whose_runtimes_disagree_is_not_written(tmp_path: Path) -> None:
    """A tolerance that the two runtimes cannot meet stops the package."""
    graph = Graph()
    graph.node("Exp", "x", name="y")
    model = graph.model("disagree", {"x": (4,)}, {"y": ("float32", (4,))})
    feeds = {"x": np.linspace(-30.0, 30.0, 4000, dtype=np.float32).reshape(-1, 4)}
    with pytest.raises(AssertionError):
        package.write(tmp_path, model, {}, feeds, {"y": (0.0, 0.0)})
    assert not list(tmp_path.iterdir())


def results(alarms: NDArray[np.bool_], test: Windows) -> report.Results:
    """Results in which the baselines never alarm."""
    never = np.zeros_like(alarms)
    return report.Results(test, alarms, np.where(alarms, test.fault, 0), never, never, 60.0)


def test_figures_count_rates_and_delays(tmp_path: Path) -> None:
    """Two alarms in a row are no detection, the third makes one, and its delay is the first one's."""
    test = made_up(8, 4)
    alarms = np.zeros(len(test.x), dtype=bool)
    of = np.flatnonzero(test.fault == 9)
    alarms[of[[0, 1, 3, 4, 5]]] = True
    found = results(alarms, test)
    row = report.rows(found)[8]
    assert row.ours == pytest.approx(5 / 8)
    assert row.delay == pytest.approx(60.0 * test.since_h[of[3]])
    assert row.delay_dynamic is None
    assert row.named == 1.0
    for name in ("README.md", "README.zh-CN.md"):
        (tmp_path / name).write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n", encoding="utf-8")
    report.write(tmp_path, found, 1, 2)
    for name in ("README.md", "README.zh-CN.md"):
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert text.startswith("before")
        assert text.endswith("after\n")
        assert "old" not in text
        assert "62.5%" in text
    assert "ours 2.2%" in report.summary(found)


def test_the_committed_figures_keep_the_promise() -> None:
    """In the README our mean detection rate is not below the baseline's, and our false alarms are at most 1 %."""
    for name in ("README.md", "README.zh-CN.md"):
        text = (train.FOLDER / name).read_text(encoding="utf-8")
        figures = text.split(report.BEGIN)[1].split(report.END)[0]
        mean, false_alarms = [line for line in figures.splitlines() if line.startswith("| | **")]
        ours, dynamic, static = (float(cell.strip(" *%")) for cell in mean.split("|")[3:6])
        assert ours >= dynamic
        assert ours >= static
        assert float(false_alarms.split("|")[3].strip(" *%")) <= 1.0
