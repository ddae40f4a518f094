"""Every window ends in an answer or in a tombstone that says why, whatever the model and the values are."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from sqlalchemy import select

from app.db import reading
from app.inferring import MOST_TOGETHER, finite, plain, score, score_all
from app.pipelines.service import versions
from app.readings.service import counts
from app.readings.tables import DeadLetterRow
from app.scoring.tables import PredictionRow
from app.sessions import Ready, Sessions
from connectors import Status
from inference import DeviceLostError
from tests.app.works import Works, mean_model

if TYPE_CHECKING:
    from collections.abc import Mapping

    from inference import Session, Tensor

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64

Make = Callable[..., Works]
Seen = tuple[dict[str, Any], str, int]


@pytest.fixture
def make(here: str, tmp_path: Path) -> Iterator[Make]:
    """Works with another model or another pipeline; closed afterwards."""
    made: list[Works] = []

    def build(proto: onnx.ModelProto | None = None, **spec: object) -> Works:
        made.append(Works(here, tmp_path, proto=proto, spec=spec))
        return made[-1]

    yield build
    for one in made:
        one.close()


def scored(works: Works, values: list[float], **changes: Any) -> list[Seen]:  # noqa: ANN401 - of a block
    """Outputs, reason and status of windows that went through the worker, in their order."""
    works.scorer.apply(works.message(1, works.block(values, 1, **changes)))
    query = select(PredictionRow.outputs, PredictionRow.reason, PredictionRow.status).order_by(PredictionRow.end_time)
    with reading(works.engine) as session:
        return [(row.outputs, row.reason, row.status) for row in session.execute(query)]


def letters(works: Works) -> list[tuple[str, str]]:
    """Address and reason of the dead letters."""
    with reading(works.engine) as session:
        return [(one.address, one.reason) for one in session.scalars(select(DeadLetterRow))]


ROOT = [{"name": "root", "tag": 4, "tag_name": "watch.root"}]


def test_what_is_not_finite_is_no_answer(make: Make) -> None:
    """A model that answers NaN for one window is refused for that window alone, with the output's name."""
    good, bad, other = scored(make(outputs=ROOT), [4.0, -4.0, 9.0])
    assert (good, other) == (({"root": 2.0}, "", 0), ({"root": 3.0}, "", 0))
    assert bad == ({}, "not_finite:root", Status.BAD_OUT_OF_RANGE)


@pytest.mark.parametrize("cells", ["float64", "float32"])
def test_what_does_not_fit_the_element_type_is_not_fed(make: Make, cells: str) -> None:
    """A value beyond float32 would reach the model as infinity: the window is refused, the others are answered."""
    good, bad = scored(make(cells=cells), [4.0, 1e300])
    assert good[0] == {"score": 4.0, "kind": 4}
    assert bad == ({}, "out_of_range", Status.BAD_OUT_OF_RANGE)


def test_windows_that_travel_narrow_are_answered_alike(make: Make) -> None:
    """A model of float32 answers the same for windows in either width; the digest is that of what travelled."""
    works = make(cells="float32")
    version = versions(works.engine, {works.version})[0][works.version]
    found = score(works.scorer.sessions, version, works.block([0.1, 2.5], 1))
    assert [one["score"] for one in found.outputs] == [pytest.approx(0.1, rel=1e-6), 2.5]
    assert found.digest[1] == sha256(np.full(8, 2.5, "<f4").tobytes() + bytes(32)).hexdigest()
    wide = version.spec.model_copy(update={"cells": "float64"})
    with pytest.raises(ValueError, match="reshape"):
        score(works.scorer.sessions, replace(version, spec=wide), works.block([2.5], 1))


class Counted:
    """A real session that counts its calls."""

    def __init__(self, session: Session) -> None:
        """Nothing is counted yet."""
        self._session = session
        self.placement = session.placement
        self.sizes: list[int] = []

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Note how many windows, and run them."""
        self.sizes.append(len(next(iter(feeds.values()))))
        return self._session.run(feeds)

    def close(self) -> None:
        """As the real one."""
        self._session.close()


def counted(works: Works) -> Counted:
    """Put the counter in place of the session of this pipeline's model."""
    version = versions(works.engine, {works.version})[0][works.version]
    ready = works.scorer.sessions.get(version.spec)
    assert isinstance(ready, Ready)
    ready.session = made = Counted(ready.session)
    return made


def test_pipelines_of_one_model_are_run_together(make: Make) -> None:
    """One call for all of them; each gets its own answers, refusals and digests, as if it were alone."""
    works = make()
    same = works.put_in_force(name="watch")
    other = works.put_in_force(outputs=[{"name": "kind", "tag": 3, "tag_name": "watch.kind"}])
    known = versions(works.engine, {works.version, same, other})[0]
    blocks = [
        (known[works.version], works.block([1.0, 1e300], 1)),
        (known[same], works.block([2.0, 3.0, 4.0], 1, refused=((1, "gap:17"),))),
        (known[other], works.block([5.0], 1)),
        (known[same], works.block([6.0], 4, refused=((0, "gap:17"),))),
    ]
    sessions = works.scorer.sessions
    alone = [score(sessions, *one) for one in blocks]
    calls = counted(works)
    together = score_all(sessions, blocks)
    assert calls.sizes == [3, 1], "what is refused is not run, and other outputs are another call"
    for one, mine in zip(together, alone, strict=True):
        assert (one.outputs, one.reason, one.status) == (mine.outputs, mine.reason, mine.status)
        assert (one.version, one.passport, one.dead) == (mine.version, mine.passport, mine.dead)
        assert one.digest == mine.digest
    assert [one.reason for one in together] == [["", "out_of_range"], ["", "gap:17", ""], [""], ["gap:17"]]
    assert together[1].outputs == [{"score": 2.0, "kind": 2}, {}, {"score": 4.0, "kind": 4}]


def test_no_call_grows_without_bound(make: Make) -> None:
    """Blocks are put together up to so many windows; one that has more by itself is run whole."""
    works = make()
    version = versions(works.engine, {works.version})[0][works.version]
    calls = counted(works)
    sizes = [MOST_TOGETHER - 1, 1, 2, MOST_TOGETHER + 5]
    score_all(works.scorer.sessions, [(version, works.block([1.0] * n, 1)) for n in sizes])
    assert sorted(calls.sizes) == sorted([MOST_TOGETHER, 2, MOST_TOGETHER + 5])


def test_a_model_that_refuses_windows_refuses_those_of_their_own_pipeline(make: Make) -> None:
    """A model of batch one takes none of them together: each is answered by itself, and nobody for another."""
    works = make(mean_model(1))
    version = versions(works.engine, {works.version})[0][works.version]
    found = score_all(works.scorer.sessions, [(version, works.block([n, n + 1.0], 1)) for n in (1.0, 7.0)])
    assert [[one["score"] for one in each.outputs] for each in found] == [[1.0, 2.0], [7.0, 8.0]]


def test_windows_that_the_gateway_refused_are_tombstones(make: Make) -> None:
    """They keep the gateway's reason and status, take no part in the run, and have a digest like any other."""
    quality = np.array([0, 0x80310000], dtype=np.uint32).tobytes()
    good, bad = scored(make(), [4.0, float("nan")], refused=((1, "gap:17"),), quality=quality)
    assert good[1:] == ("", 0)
    assert bad == ({}, "gap:17", Status.BAD_NO_COMMUNICATION)


def test_the_status_is_that_of_the_inputs(make: Make) -> None:
    """An answer over Uncertain inputs is Uncertain, with the very code."""
    quality = np.array([Status.UNCERTAIN_SUB_NORMAL], dtype=np.uint32).tobytes()
    assert scored(make(), [4.0], quality=quality) == [({"score": 4.0, "kind": 4}, "", Status.UNCERTAIN_SUB_NORMAL)]


@pytest.mark.parametrize("status", [0, Status.UNCERTAIN_LAST_USABLE])
def test_one_status_stands_for_all_cells(make: Make, status: int) -> None:
    """A window has the same digest whether its statuses came one by one or once."""
    works = make()
    version = versions(works.engine, {works.version})[0][works.version]
    block = works.block([1.0, 2.0], 1)
    cells = block.rows * block.inputs
    whole, once = (
        msgspec.structs.replace(block, status=np.full(count, status, np.uint32).tobytes()) for count in (cells, 1)
    )
    found = [score(works.scorer.sessions, version, one).digest for one in (whole, once)]
    expected = sha256(np.full(cells // 2, 1.0).tobytes() + np.full(cells // 2, status, np.uint32).tobytes())
    assert found[0] == found[1]
    assert found[0][0] == expected.hexdigest()
    assert found[0][0] != found[0][1]


def test_a_model_of_batch_one_answers_every_window(make: Make) -> None:
    """A model that states a batch of 1 is run window by window."""
    assert [one[0]["score"] for one in scored(make(mean_model(rows=1)), [1.0, 2.0, 3.0])] == [1.0, 2.0, 3.0]


def whole_model() -> onnx.ModelProto:
    """Gives the mean of x, float32 [4, 2] without a batch, as the scalar `score`."""
    node = helper.make_node("ReduceMean", ["x"], ["score"], keepdims=0)
    x = helper.make_tensor_value_info("x", FLOAT, [4, 2])
    graph = helper.make_graph([node], "g", [x], [helper.make_tensor_value_info("score", FLOAT, [])])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


SCORE = [{"name": "score", "tag": 2, "tag_name": "watch.score"}]


def test_a_model_that_takes_other_windows_refuses_them(make: Make) -> None:
    """A model whose input has another rank than the windows: tombstones, a dead letter, and the readings are kept."""
    works = make(whole_model(), outputs=SCORE)
    ((outputs, reason, status),) = scored(works, [1.0])
    assert outputs == {}
    assert letters(works) == [("watch", "input_refused")]
    assert counts(works.engine) == {1: 1}
    assert reason.startswith("input_refused: ")
    assert status == Status.BAD_DATA_UNAVAILABLE


def test_a_layout_of_its_own_is_fed(make: Make) -> None:
    """NCT gives [N, columns, rows], NC gives [N, rows times columns]."""
    for layout, shape in (("NCT", [2, 4]), ("NC", [8])):
        first = helper.make_node("Slice", ["x", "from", "to", "axes"], ["part"])
        axes = list(range(1, 1 + len(shape)))
        second = helper.make_node("ReduceMean", ["part"], ["score"], axes=axes, keepdims=0)
        ends = (("from", 0), ("to", 1), ("axes", 1))
        starts = [helper.make_tensor(name, INT64, [1], [value]) for name, value in ends]
        x = helper.make_tensor_value_info("x", FLOAT, ["N", *shape])
        y = helper.make_tensor_value_info("score", FLOAT, ["N"])
        graph = helper.make_graph([first, second], "g", [x], [y], starts)
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        works = make(proto, outputs=SCORE, layout=layout)
        cells = np.arange(8, dtype=np.float64)
        ((outputs, reason, _),) = scored(works, [0.0], block=cells.tobytes())
        assert (outputs, reason) == ({"score": 3.0 if layout == "NCT" else 0.0}, "")
        Path(works.url.removeprefix("sqlite:///")).unlink()


def test_an_output_that_the_model_does_not_have_refuses(make: Make) -> None:
    """No output is made up: the reason names what is missing."""
    ((outputs, reason, _),) = scored(make(outputs=[{"name": "nothing", "tag": 9, "tag_name": "x"}]), [1.0])
    assert (outputs, reason) == ({}, "input_refused: the model has no output nothing")


def test_a_model_that_is_gone_refuses_and_readings_are_kept(make: Make) -> None:
    """Without its file no window is answered; that is no reason to try the message for ever."""
    works = make()
    shutil.rmtree(works.folder / "models")
    ((outputs, reason, status),) = scored(works, [1.0])
    assert outputs == {}
    assert reason.startswith("no_session: ")
    assert counts(works.engine) == {1: 1}
    assert status == Status.BAD_DATA_UNAVAILABLE


def test_a_device_that_is_not_there_is_named(make: Make) -> None:
    """With no device of the order the reason says what each of them said; a CPU is not taken silently."""
    ((_, reason, _),) = scored(make(devices=["ascend:0"]), [1.0])
    assert reason.startswith("no_session: ")
    assert "ascend" in reason


def test_the_next_device_of_the_order_is_taken_and_said(make: Make) -> None:
    """The passport tells which device was wanted and which one ran it."""
    works = make(devices=["ascend:0", "cpu"])
    assert scored(works, [1.0])[0][1] == ""
    with reading(works.engine) as session:
        made = session.scalars(select(PredictionRow)).one()
        assert (made.device_wanted, made.device) == ("ascend:0", "cpu")


def test_a_version_that_nobody_knows_is_a_dead_letter(make: Make) -> None:
    """Windows of a version that is not in the database are reported, and the readings are kept."""
    works = make()
    block = works.block([1.0], 1, version_id=99)
    assert works.scorer.apply(works.message(1, block))
    assert letters(works) == [("pipeline version 99", "version_unusable")]


def test_what_a_gateway_never_sent_is_refused(make: Make) -> None:
    """Bytes that are no message, and windows that lie outside their block, change nothing."""
    works = make()
    outside = np.array([3], dtype=np.int64).tobytes()
    for body in (
        b"",
        b"\xc1",
        msgspec.msgpack.encode([1, "gw"]),
        works.message(1, works.block([1.0], 1, first_row=outside)),
        works.message(1, msgspec.structs.replace(works.block([1.0], 1), sequence=b"")),
        works.message(1, works.block([1.0], 1, rows=5)),
        works.message(1, works.block([1.0], 1, refused=((7, "gap"),))),
        works.message(1, works.block([1.0], 1, context=({}, {}))),
    ):
        assert not works.scorer.apply(body)
    assert works.scorer.apply(works.message(1, works.block([1.0], 1)))


class _Losing:
    """A session whose device goes away a number of times; otherwise the one it stands before."""

    def __init__(self, session: Any, times: list[int]) -> None:  # noqa: ANN401 - any session
        self.placement, self._session, self._times = session.placement, session, times

    def run(self, feeds: dict[str, Tensor]) -> dict[str, Tensor]:
        if self._times[0]:
            self._times[0] -= 1
            message = "the cable is out"
            raise DeviceLostError(message)
        found: dict[str, Tensor] = self._session.run(feeds)
        return found

    def close(self) -> None:
        self._session.close()


class _Losable(Sessions):
    """Sessions on a device that goes away."""

    times: list[int]

    def _prepare(self, spec: Any) -> Any:  # noqa: ANN401 - what the parent takes and gives
        made: Any = super()._prepare(spec)
        made.session = _Losing(made.session, self.times)
        return made


@pytest.mark.parametrize(("lost", "reason"), [(1, ""), (2, "device_lost: the cable is out")])
def test_a_device_that_is_lost_is_prepared_again_once(make: Make, lost: int, reason: str) -> None:
    """The second try answers; a device that stays away refuses the windows and is tried again with the next ones."""
    works = make()
    found, _ = versions(works.engine, [works.version])
    sessions = _Losable(works.folder / "models")
    sessions.times = [lost]
    assert score(sessions, found[works.version], works.block([1.0], 1)).reason == [reason]
    assert score(sessions, found[works.version], works.block([1.0], 2)).reason == [""]
    sessions.drop_all()


def test_a_version_without_an_answer_shows_bad_values_of_its_own_types(make: Make) -> None:
    """An output node never changes its type: without an answer it holds its type's blank and a Bad status."""
    works = make()
    found, _ = versions(works.engine, [works.version])
    sessions = Sessions(works.folder / "models")
    made = score(sessions, found[works.version], works.block([1e300], 1))
    assert made.blanks == {"score": 0.0, "kind": 0, "root": 0.0}
    sessions.drop_all()


def test_values_become_what_json_holds() -> None:
    """Numpy scalars, arrays of one, arrays, texts and maps of scikit-learn."""
    assert plain(np.float32(1.5)) == 1.5
    assert plain(np.array([[2]], dtype=np.int64)) == 2
    assert plain(np.array([1, 2])) == [1, 2]
    assert plain("ok") == "ok"
    assert plain({0: np.float32(0.25), "b": np.float32(0.75)}) == {"0": 0.25, "b": 0.75}


def test_not_finite_is_found_at_any_depth() -> None:
    """Lists in lists and maps are looked into."""
    assert finite([1, [2.0, "x"], {"a": 0.5}, None])
    assert not finite([1, [float("inf")]])
    assert not finite({"a": [float("nan")]})
