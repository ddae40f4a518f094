"""The tightening station: recipes, stops and missed parts, on a real broker, and a log that tells the same."""

from __future__ import annotations

import json
from collections import defaultdict
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import pytest

from examples.tep.compare import compare, read_log
from examples.tightening.curves import OK, RECIPES, SAMPLES, VERDICTS, Recipe, curve, window_check
from examples.tightening.record import RECORDING
from examples.tightening.station import FIRST_COUNTER, units
from examples.tightening.train import FOLDER

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.launcher.servers import Broker
    from examples.ownlog import Entry
    from tests.examples.peers import Listener, Running

STATION = "examples.tightening.station"


def test_units_come_with_recipe_changes_stops_and_missed_parts() -> None:
    """In 36 units: a new recipe and order every 8, four curves missed though the counter goes on, three stops."""
    some = list(islice(units(seed=1), 36))
    assert [unit.counter for unit in some] == list(range(FIRST_COUNTER, FIRST_COUNTER + 36))
    changes = [b.counter for a, b in pairwise(some) if a.recipe != b.recipe]
    assert changes == [1009, 1017, 1025, 1033]
    assert [b.counter for a, b in pairwise(some) if a.order != b.order] == changes
    missed = [unit for unit in some if unit.curve is None]
    assert [unit.counter for unit in missed] == [1005, 1014, 1023, 1032]
    assert {unit.result for unit in missed} == {"NOK"}
    assert [unit.counter for unit in some if unit.stops_after] == [1010, 1022, 1034]


def test_a_replay_is_the_same_each_time() -> None:
    """The same seed replays the same curves; the recording is never exhausted."""
    first, again = (list(islice(units(seed=5), 300)) for _ in range(2))
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.curve, other.curve)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_a_sound_joint_reaches_its_torque_and_stops(recipe: Recipe) -> None:
    """Torque peaks at the target, angle never falls by more than noise and spring-back, and the station says OK."""
    random = np.random.default_rng(3)
    for _ in range(20):
        samples = curve(random, recipe, OK)
        assert samples.shape == (SAMPLES, 2)
        assert samples[:, 0].max() == pytest.approx(recipe.target, rel=0.05)
        assert np.diff(samples[:, 1]).min() > -6.0
        assert window_check(samples, recipe)


@pytest.mark.parametrize("verdict", range(1, len(VERDICTS)), ids=VERDICTS[1:])
def test_the_judge_finds_each_defect_in_fresh_curves(verdict: int) -> None:
    """Curves of a seed that nothing was trained on: at least nine in ten of each defect are named, stick-slip too."""
    random = np.random.default_rng(99)
    session = onnxruntime.InferenceSession(FOLDER / "package" / "model.onnx", providers=["CPUExecutionProvider"])
    curves = np.stack([curve(random, RECIPES[i % 2], verdict) for i in range(60)])
    assert (session.run(["verdict"], {"curve": curves})[0] == verdict).mean() >= 0.9


def test_the_recording_holds_sound_and_defective_joints() -> None:
    """What is replayed has each recipe, mostly sound joints, and the judge agrees with what they are in nine of ten."""
    with np.load(RECORDING) as recording:
        curves, verdict = recording["curves"], recording["verdict"]
    session = onnxruntime.InferenceSession(FOLDER / "package" / "model.onnx", providers=["CPUExecutionProvider"])
    named = session.run(["verdict"], {"curve": curves})[0]
    assert 0.7 < (verdict == OK).mean() < 0.9
    assert (named == verdict).mean() > 0.9


def test_the_log_equals_what_was_published(
    start: Callable[..., Running], listen: Callable[[Broker, str], Listener], broker: Broker
) -> None:
    """Until the recipe has changed: 13 packets a cycle but none for the missed part, times of 10 ms, all as logged."""
    inbox = listen(broker, "station/st10/#")
    station = start(STATION, broker, "--interval", "1.4")
    packets: dict[int, list[dict[str, Any]]] = defaultdict(list)
    cycles: list[dict[str, Any]] = []
    states: list[str] = []
    while not cycles or cycles[-1]["recipe"] == "M8-25Nm":
        topic, payload = inbox.next()
        message = json.loads(payload)
        if topic.endswith("/curve"):
            packets[message["counter"]].append(message)
        elif topic.endswith("/cycle"):
            cycles.append(message)
        else:
            states.append(message["state"])
    assert station.stop() == 0
    assert states == ["EXECUTE"]
    assert [cycle["counter"] for cycle in cycles] == list(range(1001, 1010))
    assert set(packets) == {1001, 1002, 1003, 1004, 1006, 1007, 1008, 1009}
    published: dict[str, list[Entry]] = defaultdict(list)
    for cycle in cycles:
        _check_cycle(cycle, packets.get(cycle["counter"], []), published)
    found = compare(read_log(station.log), published, end=cycles[-1]["t"] * 1_000_000)
    assert found.equal, (found.missing[:3], found.extra[:3])


def _check_cycle(cycle: dict[str, Any], packets: list[dict[str, Any]], published: dict[str, list[Entry]]) -> None:
    """The samples fill the cycle from start to end; all values are added to what was published."""
    samples = [sample for packet in packets for sample in packet["samples"]]
    if samples:
        assert len(packets) == 13
        assert [sample["t"] for sample in samples] == list(range(cycle["start"], cycle["t"] + 1, 10))
    for sample in samples:
        for tag in ("torque", "angle"):
            published[tag].append((sample["t"] * 1_000_000, sample[tag], 0))
    for tag in ("counter", "unit_id", "recipe", "recipe_revision", "order", "result"):
        published[tag].append((cycle["t"] * 1_000_000, cycle[tag], 0))
