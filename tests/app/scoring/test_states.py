"""Models that carry a state: each window is fed what the one before it has left, whoever runs it and whenever."""

from __future__ import annotations

import tempfile
import threading
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app import answers
from app.backfill.service import waiting
from app.db import writing
from app.ledger.tables import GapRow
from app.letters import service as letters
from app.letters.tables import AttemptRow, DeadWindowsRow
from app.letters.tasks import Replayer
from app.messages import Stop, decoded, encoded
from app.pipelines.service import versions
from app.records import FillRecord
from app.scoring import service
from app.scoring.tables import PredictionRow
from app.scoring.tasks import Scorer
from app.states import service as states
from app.states.tables import ModelStateRow
from tests.app.letters.deadly import rows
from tests.app.works import INPUTS, LENGTH, SECOND, START, Works, record
from tests.inference.onnx_graphs import FLOAT, build, constant, node, value

if TYPE_CHECKING:
    from collections.abc import Iterator

OUTPUTS = [{"name": "score", "tag": 2, "tag_name": "watch.score"}]
SPEC: dict[str, Any] = {"outputs": OUTPUTS, "state": {"h": "left"}}


def summing(rows_of: list[int | str]) -> Any:  # noqa: ANN401 - a model
    """`score` is the sum of the means of all windows so far, in a state of this shape; its square root is beside it."""
    x, h = value("x", FLOAT, ["N", LENGTH, INPUTS]), value("h", FLOAT, rows_of)
    outputs = [value("score", FLOAT, ["N"]), value("left", FLOAT, rows_of), value("root", FLOAT, ["N"])]
    shape = constant("shape", [1] * len(rows_of), "int64")
    nodes = [
        node("ReduceMean", ["x"], ["m"], axes=[1, 2], keepdims=0), node("Reshape", ["m", "shape"], ["r"]),
        node("Add", ["r", "h"], ["left"]), node("Reshape", ["left", "flat"], ["score"]),
        node("Sqrt", ["score"], ["root"]),
    ]  # fmt: skip
    return build(nodes, [x, h], outputs, [shape, constant("flat", [1], "int64")])


@pytest.fixture(params=[["N"], [1, "N", 1]], ids=["rows first", "as a GRU has it"])
def works(request: pytest.FixtureRequest, database_url: str, tmp_path: Path) -> Iterator[Works]:
    """A pipeline whose model carries a sum."""
    made = Works(database_url, tmp_path, proto=summing(request.param), spec=SPEC)
    yield made
    made.close()


@pytest.fixture
def others(works: Works) -> Iterator[list[Scorer]]:
    """Three more workers, that wait for a tenth of a second."""
    made = []
    for _ in range(3):
        bare = works.worker()
        made.append(Scorer(bare.engine, bare.sessions, bare.tell, wait_s=0.1))
    yield made
    for one in made:
        one.close()


def stored(works: Works, version: int | None = None) -> list[tuple[int, float | None]]:
    """Numbers and scores."""
    found = [one for one in rows(works, PredictionRow) if one.version_id == (version or works.version)]
    return sorted((one.sequence, one.outputs.get("score")) for one in found if one.sequence is not None)


def at(works: Works) -> list[int]:
    """After which window the state stands."""
    return [one.sequence for one in rows(works, ModelStateRow) if one.version_id == works.version]


def test_each_window_goes_on_from_the_one_before(works: Works) -> None:
    """Within a message and from one to the next; a repeat changes nothing, and a new version begins anew."""
    assert works.scorer.apply(works.message(1, works.block([1.0, 2.0, 3.0], 1)))
    assert works.scorer.apply(works.message(2, works.block([10.0, 20.0], 4)))
    assert not works.scorer.apply(works.message(2, works.block([10.0, 20.0], 4)))
    assert stored(works) == [(1, 1.0), (2, 3.0), (3, 6.0), (4, 16.0), (5, 36.0)]
    assert at(works) == [5]
    works.version = works.put_in_force(**SPEC)
    assert works.scorer.apply(works.message(3, works.block([7.0], 1)))
    assert (stored(works), at(works)) == ([(1, 7.0)], [1])


def test_a_window_waits_for_the_one_before_it(works: Works) -> None:
    """It is with another worker, which is slower: both are answered as if they had come in order."""
    late = works.worker()
    waits = threading.Thread(target=late.apply, args=(works.message(2, works.block([10.0], 2)),))
    waits.start()
    assert works.scorer.apply(works.message(1, works.block([1.0], 1)))
    waits.join(20)
    late.close()
    assert stored(works) == [(1, 1.0), (2, 11.0)]


def test_one_whose_forerunner_is_lost_is_not_stored_before_it(works: Works, others: list[Scorer]) -> None:
    """The gateway sends both again."""
    second = works.message(2, works.block([10.0], 2))
    assert not others[0].apply(second)
    assert stored(works) == []
    assert others[1].apply(works.message(1, works.block([1.0], 1)))
    assert others[2].apply(second)
    assert stored(works) == [(1, 1.0), (2, 11.0)]


def test_where_nothing_can_come_any_more_the_state_goes_on(works: Works, others: list[Scorer]) -> None:
    """All of the journal before is stored: a window that has a higher number follows none that is missing."""
    assert others[0].apply(works.message(1, works.block([1.0], 1)))
    assert others[0].apply(works.message(2, of=record(1, at=START + 9 * SECOND)))
    assert others[1].apply(works.message(3, works.block([10.0], 8)))
    assert (stored(works), at(works)) == ([(1, 1.0), (8, 11.0)], [8])


def test_copies_of_a_message_move_the_state_once(works: Works, others: list[Scorer]) -> None:
    """However many workers have it at the same time."""
    message = works.message(1, works.block([1.0, 2.0], 1))
    threads = [threading.Thread(target=one.apply, args=(message,)) for one in (*others, works.scorer)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(20)
    assert (stored(works), at(works)) == ([(1, 1.0), (2, 3.0)], [2])
    assert works.scorer.apply(works.message(2, works.block([3.0], 3)))
    assert stored(works)[-1] == (3, 6.0)


def test_an_answer_from_an_old_state_is_not_stored(works: Works) -> None:
    """Nothing of its message is; whoever has moved the state meanwhile has the answer that counts."""
    assert works.scorer.apply(works.message(1, works.block([1.0], 1)))
    version = versions(works.engine, [works.version])[0][works.version]
    message = decoded(works.message(2, works.block([10.0], 2)))
    (scored,) = works.scorer._answered(message, 0).values()  # noqa: SLF001 - as it computes it
    assert scored.carried is not None
    for before in (0, 2):
        old = replace(scored, carried=replace(scored.carried, before=before))
        with pytest.raises(states.MovedError):
            service.apply(works.engine, message, [old])
    assert (stored(works), at(works)) == ([(1, 1.0)], [1])
    assert service.apply(works.engine, message, [scored])
    assert (stored(works), at(works)) == ([(1, 1.0), (2, 11.0)], [2])
    assert states.read(works.engine, version.id) == (2, scored.carried.state)


def test_what_is_refused_leaves_the_state_as_it_was(works: Works) -> None:
    """A window that the gateway refused, and one whose state would not be finite; numbers go on."""
    block = works.block([1.0, 5.0, float("inf"), 2.0], 1, refused=((1, "gap:1"),))
    assert works.scorer.apply(works.message(1, block))
    assert stored(works) == [(1, 1.0), (2, None), (3, None), (4, 3.0)]
    assert at(works) == [4]


def test_an_answer_that_is_not_finite_leaves_it_too(here: str, tmp_path: Path) -> None:
    """Nobody would know what came of it."""
    outputs = [*OUTPUTS, {"name": "root", "tag": 3, "tag_name": "watch.root"}]
    works = Works(here, tmp_path, proto=summing(["N"]), spec={**SPEC, "outputs": outputs})
    assert works.scorer.apply(works.message(1, works.block([4.0, -5.0, 5.0], 1)))
    assert [one.outputs.get("root") for one in sorted(rows(works, PredictionRow), key=lambda one: one.end_time)] == [
        2.0, None, 3.0,
    ]  # fmt: skip
    works.close()


def test_it_travels_with_the_answers(works: Works) -> None:
    """A message with more stops: the last worker moves the state."""
    sent: list[bytes] = []
    bare = works.worker()
    first = Scorer(bare.engine, bare.sessions, bare.tell, send=lambda body, _, __: sent.append(body))
    whole = decoded(works.message(1, works.block([1.0, 2.0], 1)))
    assert not first.apply(encoded(msgspec.structs.replace(whole, stops=(Stop("infer.other"),))))
    first.close()
    assert at(works) == []
    version = versions(works.engine, [works.version])[0][works.version]
    (_, body), = decoded(sent[0]).answers
    carried = answers.unpacked(works.scorer.sessions, version, whole.windows[0], body).carried
    assert carried is not None
    assert (carried.before, carried.after) == (0, 2)
    assert works.scorer.apply(sent[0])
    assert (stored(works), at(works)) == ([(1, 1.0), (2, 3.0)], [2])


def test_the_past_is_not_computed_again(works: Works) -> None:
    """The state has gone on: gaps leave no work, a dead letter says why it cannot be replayed."""
    assert works.scorer.apply(works.message(1, works.block([1.0], 1)))
    with writing(works.engine) as session:
        session.add(GapRow(connection_id=1, since=START, until=START + 50 * SECOND))
        session.add(AttemptRow(journal="gw", epoch=1, number=3, deaths=3, process="", at=0))
    last = record(1, at=START + 100 * SECOND)
    until = START + 50 * SECOND
    works.scorer.apply(works.message(2, of=msgspec.structs.replace(last, fill=FillRecord(1, until, "filled"))))
    assert waiting(works.engine) == set()
    assert works.scorer.apply(works.message(3, works.block([2.0], 2)))
    (kept,) = rows(works, DeadWindowsRow)
    letters.ask(works.engine, "wu", kept.letter_id, present=False)
    assert Replayer(works.engine, works.scorer.sessions, works.scorer.tell).once()
    (kept,) = rows(works, DeadWindowsRow)
    assert "carries a state" in kept.said


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(-50, 50), min_size=1, max_size=12), st.integers(1, 5), st.randoms(use_true_random=False))
def test_the_same_as_one_after_the_other(values: list[int], pieces: int, draw: Any) -> None:  # noqa: ANN401 - a Random
    """However windows are divided into messages, and in whatever order and by whom these are taken up."""
    with tempfile.TemporaryDirectory() as folder:
        works = Works(f"sqlite:///{folder}/h.db", Path(folder), proto=summing(["N"]), spec=SPEC)
        bare = works.worker()
        other = Scorer(bare.engine, bare.sessions, bare.tell, wait_s=0.0)
        parts = [part for part in np.array_split(np.arange(len(values)), pieces) if len(part)]
        left = [
            works.message(number, works.block([float(values[index]) for index in part], int(part[0]) + 1))
            for number, part in enumerate(parts, 1)
        ]
        while left:
            message = draw.choice(left)
            if other.apply(message):
                left.remove(message)
        assert stored(works) == [*enumerate(map(float, accumulate(values)), 1)]
        other.close()
        works.close()
