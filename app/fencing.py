"""Whether a message still stands on its leases, and which of its readings another gateway has stored already.

Where several gateways share a database, each record and each window names the term it was made in. Readings of an
older term are stored, since their field was told that they are safe; its windows are late revisions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from app import times
from app.db import hurried
from app.field.repeats import marks_of, picked
from app.leases import service as leases
from app.readings import service as readings
from app.records import decode_columns, encode_columns
from connectors import NO_TIME, Batch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from app.messages import Message
    from app.records import Record, WindowBlock

OVERLAP_NS: Final = 120 * times.NANOS
"""So long after a takeover the new holder may be sent what the old one has journaled: what was not acknowledged, and
the present values of tags."""
REPEATED: Final = "stored_by_another_gateway"
LATE: Final = "late"
"""Why the ledger counts readings as refused, and of which kind others are that it counts as stored."""


@dataclass(frozen=True, slots=True)
class Fence:
    """What the leases say of one message."""

    late: bool = False
    """Whether its readings were journaled under a term that is over."""
    stale: frozenset[tuple[int, int]] = frozenset()
    """Pipeline version and term of windows whose term is over."""
    overlaps: bool = False
    """Whether another gateway may have stored some of its readings."""

    def is_live(self, block: WindowBlock) -> bool:
        """Whether windows keep their numbers."""
        return (block.version_id, block.term) not in self.stale


OPEN: Final = Fence()
"""Where there is one gateway."""


def look(session: Session, message: Message) -> Fence:
    """Ask the leases, and hold them in this transaction: nobody takes one until it ends."""
    names = {leases.connection(one.leased) for one in message.windows if one.term}
    if message.term:
        names.add(leases.connection(message.record.connection))
    if not names:
        return OPEN
    hurried(session)
    # Two gateways' messages with the same readings must not pass each other. Whoever shares a lock first and then
    # wants it alone waits for others who do the same.
    guess = _judged(message, leases.terms(session, names, lock=leases.Lock.NONE))
    found = _judged(message, leases.terms(session, names, lock=_lock(guess)))
    if found.overlaps and not guess.overlaps:
        leases.terms(session, names, lock=leases.Lock.ALONE)
    return found


def _lock(fence: Fence) -> leases.Lock:
    return leases.Lock.ALONE if fence.overlaps else leases.Lock.SHARED


def _judged(message: Message, now: Mapping[str, leases.Term]) -> Fence:
    """A lease that the database does not know (any more) stands: a backup may be older than it."""
    terms = {name: one.term for name, one in now.items()}
    stale = frozenset(
        (one.version_id, one.term)
        for one in message.windows
        if one.term < terms.get(leases.connection(one.leased), 0) and one.term
    )
    mine = now.get(leases.connection(message.record.connection))
    if not message.term or mine is None:
        return Fence(stale=stale)
    late = message.term < mine.term
    soon = message.term > 1 and message.record.received_time < mine.since + OVERLAP_NS
    return Fence(late, stale, bool(message.record.count) and (late or soon))


def without_stored(engine: Engine, record: Record) -> tuple[Record, int]:
    """The record without the readings that are stored, and how many those are.

    The same tag, source time, value and status is one reading. One without a source time is never told apart.
    """
    columns = decode_columns(record.columns)
    known = _known(engine, record)
    if not len(known):
        return record, 0
    marks = marks_of(*columns)
    place = np.minimum(known.searchsorted(marks), len(known) - 1)
    new = (known[place] != marks) | (columns[1] == NO_TIME)
    if new.all():
        return record, 0
    tags, at, values, others, status = columns
    batch = Batch(tags, at, values, others, status, record.received_time, record.alive_until, record.revision)
    return _shrunk(record, picked(batch, new)), int(len(new) - new.sum())


def _known(engine: Engine, record: Record) -> NDArray[np.uint64]:
    """Marks of what is stored of the record's span, sorted."""
    stored = readings.between(engine, [record.connection], record.first_time, record.last_time + 1)
    found = [marks_of(*one.columns) for one in stored]
    return np.unique(np.concatenate(found)) if found else np.empty(0, np.uint64)


def _shrunk(record: Record, batch: Batch) -> Record:
    if not len(batch):
        return msgspec.structs.replace(record, count=0, columns=b"")
    at = np.where(batch.source_time == NO_TIME, batch.received_time, batch.source_time)
    return msgspec.structs.replace(
        record, count=len(batch), first_time=int(at.min()), last_time=int(at.max()), columns=encode_columns(batch)
    )
