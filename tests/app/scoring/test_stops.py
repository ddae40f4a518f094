"""A message that goes from worker to worker, each with other devices: what all answer is stored once, together."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from sqlalchemy import delete, select, update

from app import answers, lives
from app.db import reading, writing
from app.errors import QueueError
from app.letters import service as letters
from app.letters.tables import AttemptRow, DeadWindowsRow
from app.messages import MOST_STOPS, Stop, decoded, encoded
from app.northbound.tables import OutboxRow
from app.pipelines.service import versions
from app.readings.tables import AppliedRow, BatchRow
from app.scoring.tables import PredictionRow
from app.scoring.tasks import Scorer, _packed
from app.sessions import Sessions
from tests.app.letters.deadly import rows
from tests.app.works import Works, record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.messages import Message

REFERENCE, CPU = ("reference",), ("cpu",)


@dataclass
class Post:
    """Where workers put what others go on with."""

    sent: list[tuple[Message, str, str]] = field(default_factory=list)
    away: bool = False

    def send(self, body: bytes, queue: str, name: str) -> None:
        """As `Door.send` does."""
        if self.away:
            message = "Redis is away"
            raise QueueError(message)
        self.sent.append((decoded(body), queue, name))


@dataclass
class Pair:
    """Two pipelines on the same readings, on other devices; and workers."""

    works: Works
    on_cpu: int
    on_reference: int
    post: Post = field(default_factory=Post)
    workers: list[Scorer] = field(default_factory=list)

    def worker(self, **changes: Any) -> Scorer:  # noqa: ANN401 - of a Scorer
        """One more process, as far as the database can tell."""
        bare = self.works.worker()
        made = Scorer(bare.engine, bare.sessions, bare.tell, send=self.post.send, **changes)
        self.workers.append(made)
        return made

    def message(self, number: int = 1, *stops: Stop) -> bytes:
        """Two windows of each pipeline, one of which has a square root of a negative mean."""
        blocks = [
            self.works.block([value, -1.0], 2 * number - 1, version_id=version)
            for value, version in ((2.0, self.on_cpu), (3.0, self.on_reference))
        ]
        whole = self.works.message(number, *blocks, of=record(1, [1.0, 2.0]))
        return encoded(msgspec.structs.replace(decoded(whole), stops=stops))

    def stored(self) -> list[dict[str, Any]]:
        """Predictions, but for what each run has of its own."""
        with reading(self.works.engine) as session:
            found = session.scalars(select(PredictionRow).order_by(PredictionRow.version_id, PredictionRow.end_time))
            columns = {one.name for one in PredictionRow.__table__.columns} - {"latency_ns", "created_time"}
            return [{name: getattr(one, name) for name in columns} for one in found]


@pytest.fixture
def pair(works: Works) -> Iterator[Pair]:
    """Both answer `root` as well, which is no number for one of the windows."""
    outputs = [{"name": name, "tag": tag, "tag_name": f"watch.{name}"} for name, tag in (("score", 2), ("root", 3))]
    cpu, reference = [works.put_in_force(devices=list(devices), outputs=outputs) for devices in (CPU, REFERENCE)]
    there = Pair(works, cpu, reference)
    yield there
    for one in there.workers:
        one.close()


THERE = Stop("infer.reference", (REFERENCE,))


def test_the_last_worker_stores_what_all_have_answered(pair: Pair) -> None:
    """As one worker with all devices would have, in one transaction; before that nothing is stored."""
    first, second = pair.worker(), pair.worker()
    assert not first.apply(pair.message(1, THERE))
    assert rows(pair.works, AppliedRow) == rows(pair.works, PredictionRow) == []
    assert {spec[0] for spec in first.sessions.held()} == {pair.works.model.digest}
    assert {order for _, order in first.sessions.held()} == {CPU}
    ((onward, queue, name),) = pair.post.sent
    assert (queue, name, onward.stops) == ("infer.reference", "gw:1:1:infer.reference", ())
    assert [at for at, _ in onward.answers] == [0]
    assert second.apply(encoded(onward))
    assert {order for _, order in second.sessions.held()} == {REFERENCE}
    relayed = pair.stored()
    assert [one["device"] for one in relayed] == ["cpu", "cpu", "reference", "reference"]
    assert [bool(one["reason"]) for one in relayed] == [False, True, False, True]
    assert [one.number for one in rows(pair.works, AppliedRow)] == [1]
    assert rows(pair.works, AttemptRow) == []
    with writing(pair.works.engine) as session:
        for table in (PredictionRow, AppliedRow, BatchRow, OutboxRow):
            session.execute(delete(table))
    assert pair.worker().apply(pair.message(1))
    assert pair.stored() == relayed


def test_three_stops_and_a_repeat_at_each(pair: Pair) -> None:
    """What comes twice anywhere on the way is stored once."""
    stops = (Stop("infer.one"), THERE)
    for _ in range(2):
        pair.worker().apply(pair.message(1, *stops))
    second = [one for one in pair.post.sent if one[1] == "infer.one"]
    assert len(second) == 2
    for onward, _, _ in second:
        pair.worker().apply(encoded(onward))
    third = [one for one in pair.post.sent if one[1] == "infer.reference"]
    assert [len(one.answers) for one, _, _ in third] == [1, 1]
    assert [pair.worker().apply(encoded(one)) for one, _, _ in third] == [True, False]
    assert len(pair.stored()) == 4
    # What is applied is not handed on any more.
    assert not pair.worker().apply(pair.message(1, *stops))
    assert len(pair.post.sent) == 4


def test_where_the_queue_is_away_nothing_is_stored(pair: Pair) -> None:
    """The gateway sends it again, here perhaps to a worker that has everything."""
    pair.post.away = True
    assert not pair.worker().apply(pair.message(1, THERE))
    assert rows(pair.works, AppliedRow) == []
    assert pair.worker().apply(pair.message(1))
    assert len(pair.stored()) == 4


def test_one_that_has_handed_it_on_does_not_die_over_it(pair: Pair) -> None:
    """Whoever goes on with it may: his death is counted, that of the one before is not."""
    pair.worker().apply(pair.message(1, THERE))
    onward = pair.post.sent[0][0]
    (row,) = rows(pair.works, AttemptRow)
    assert (row.process, row.deaths) == ("", 0)
    assert letters.begin(pair.works.engine, onward) == 0
    (row,) = rows(pair.works, AttemptRow)
    assert (row.process, row.deaths) == (lives.me(), 0)
    with writing(pair.works.engine) as session:
        session.execute(update(AttemptRow).values(process="elsewhere/00000000:1:1", at=0))
    assert letters.begin(pair.works.engine, onward) == 1
    pair.worker().apply(encoded(onward))
    assert len(pair.stored()) == 4


def test_windows_that_were_refused_on_the_way_are_kept_as_dead_letters(pair: Pair) -> None:
    """What a model refuses is kept by the one who stores it, whoever ran it."""
    with writing(pair.works.engine) as session:
        session.add(AttemptRow(journal="gw", epoch=1, number=1, deaths=3, process="", at=0))
    pair.worker().apply(pair.message(1, THERE))
    pair.worker().apply(encoded(pair.post.sent[0][0]))
    assert {one["reason"].partition(":")[0] for one in pair.stored()} == {"killed_worker"}
    assert sorted(one.version_id for one in rows(pair.works, DeadWindowsRow)) == [pair.on_cpu, pair.on_reference]


def test_answers_travel_whole_and_only_to_their_windows(pair: Pair) -> None:
    """All of what was computed; of a block with more windows, or of windows that are not there, they are refused."""
    worker = pair.worker()
    version = versions(worker.engine, [pair.on_cpu])[0][pair.on_cpu]
    block = pair.works.block([2.0, -1.0], 1, version_id=pair.on_cpu)
    worker.apply(pair.message(1, THERE))
    body = pair.post.sent[0][0].answers[0][1]
    nobody = Sessions(pair.works.folder / "models")
    found = answers.unpacked(nobody, version, block, body)
    assert answers.packed(found) == body
    assert (found.passport.device, found.blanks["score"]) == ("cpu", 0.0)
    longer = pair.works.block([2.0, -1.0, 1.0], 1, version_id=pair.on_cpu)
    with pytest.raises(ValueError, match="not those of its 3 windows"):
        answers.unpacked(nobody, version, longer, body)
    outside = msgspec.msgpack.decode(body)
    outside[answers.Answers.__struct_fields__.index("dead")] = {"why": "input_refused", "windows": [2]}
    with pytest.raises(ValueError, match="not those of its 2 windows"):
        answers.unpacked(nobody, version, block, msgspec.msgpack.encode(outside))
    garbled = msgspec.structs.replace(pair.post.sent[0][0], answers=((0, b"\xc1"),))
    assert not worker.apply(encoded(garbled))
    assert rows(pair.works, AppliedRow) == []


@pytest.mark.parametrize("stops", [
    (Stop("celery; DROP"),), (Stop("x" * 61),), (Stop("infer.cpu"),) * (MOST_STOPS + 1), (Stop("a", (CPU,) * 1001),),
])  # fmt: skip
def test_a_way_that_no_gateway_chose_is_refused(pair: Pair, stops: tuple[Stop, ...]) -> None:
    """A queue's name, and how many there are, come out of a queue."""
    assert not pair.worker().apply(pair.message(1, *stops))
    assert pair.post.sent == rows(pair.works, AppliedRow) == []


def test_what_has_become_too_large_to_travel_ends_where_it_is(pair: Pair) -> None:
    """Nobody could read it: it is stored here, by what is here."""
    assert pair.worker(most_bytes=100).apply(pair.message(1, THERE))
    assert pair.post.sent == []
    assert [one["device"] for one in pair.stored()] == ["cpu", "cpu", "reference", "reference"]


def test_answers_that_cannot_travel_are_refused_like_those_that_cannot_be_stored(pair: Pair) -> None:
    """The message goes on, and its readings are kept."""
    worker = pair.worker()
    version = versions(worker.engine, [pair.on_cpu])[0][pair.on_cpu]
    block = pair.works.block([2.0], 1, version_id=pair.on_cpu)
    (whole,) = worker._scored([(version, block)], 0)  # noqa: SLF001 - as it computes them
    odd = replace(whole, outputs=[{"score": 2**70, "root": object()}])
    found = answers.unpacked(worker.sessions, version, block, _packed(odd))
    assert [one.partition(":")[0] for one in found.reason] == ["not_storable"]
    assert found.outputs == [{}]
