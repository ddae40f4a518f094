"""The journal's loss policy at work: what is dropped when its budget is used up or its oldest readings are too old."""

from __future__ import annotations

import asyncio
import errno
from functools import partial
from typing import TYPE_CHECKING, Final

from app import times
from app.field.blocking import blocking
from app.field.latest import Following
from app.journal.frames import DamagedError
from app.log import JOURNAL_DROPPED, JOURNAL_DROPPING, JOURNAL_NOT_DROPPED, get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from app.field.checkpoints import Checkpoints
    from app.field.dispatcher import Dispatcher
    from app.field.snapshots import Snapshots
    from app.journal import Journal
    from app.journal.room import Span

log = get_logger(__name__)

PERIOD_S: Final = 0.5
HOUR_S: Final = 3600
STOP, DROP_OLDEST, BY_PRIORITY = "stop", "drop_oldest", "drop_by_priority"
RANKS: Final = {"low": 0, "normal": 1, "high": 2}
"""Priorities of connections: the lowest goes first."""
FULL, AGE = "journal_full", "journal_age"


class Shedding:
    """Drops the oldest records that were not sent, a segment at a time, where the policy says so.

    By priority: first the readings of the lowest one from inside each segment, the oldest first, then of the next one.
    What is on its way to the workers is never dropped: the windows that it closed have numbers already, and rules wait
    for each number.
    """

    def __init__(
        self,
        journal: Journal,
        dispatcher: Dispatcher,
        snapshots: Snapshots,
        checkpoints: Checkpoints,
        *,
        policy: str = STOP,
        max_age_h: float | None = None,
        priority: Callable[[int], str] = lambda _: "normal",
    ) -> None:
        """`policy`: `stop` drops nothing, the others do. `max_age_h`: what waits for longer is dropped too.

        `priority`: of a connection, by its id: `low`, `normal`, `high`.
        """
        self.policy = policy
        self.reason = ""
        """Why it drops; empty while it does not."""
        self._journal = journal
        self._dispatcher = dispatcher
        self._snapshots = snapshots
        self._checkpoints = checkpoints
        self._max_age_ns = 0 if max_age_h is None else round(max_age_h * HOUR_S * times.NANOS)
        self._priority = priority
        self._failing = ""
        self._before = 0
        self._began_at = 0

    async def run(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(PERIOD_S)
            await self.look()

    async def look(self) -> None:
        """Drop what has to be dropped now, and see whether that is over."""
        if self.policy == STOP:
            return
        if self.reason or self._journal.crowded:
            # What is applied already makes room first.
            await self._checkpoints.turn()
        while await self._drop_one():
            pass
        if self.reason and await self._over():
            self._ended()

    async def _drop_one(self) -> bool:
        # While the lock is held nothing is read that could be sent.
        async with self._dispatcher.reading:
            before = self._journal.dropped_readings
            try:
                reason = await self._drop_in(self._dispatcher.unsent())
                if not reason:
                    return False
            except (OSError, DamagedError) as error:
                self._failed(str(error))
                return False
        self._failing = ""
        if not self.reason:
            self._before, self._began_at = before, times.now()
            log.error(JOURNAL_DROPPING, reason=reason, policy=self.policy, effect="readings are dropped")
        self.reason = reason
        return True

    async def _drop_in(self, spans: Sequence[Span]) -> str:
        """Drop something from the oldest of these that has something to drop; why, empty when nothing was dropped."""
        ways = (self._thin, self._drop) if self.policy == BY_PRIORITY else (self._drop,)
        for way in ways:
            for span in spans:
                reason = await blocking(self._wanted, span)
                dropped: bool = reason != "" and await blocking(partial(way, span, reason))
                if dropped:
                    return reason
        return ""

    def _wanted(self, span: Span) -> str:
        if self._journal.crowded:
            return FULL
        old = self._max_age_ns and self._journal.age_ns(span[0], times.now(), span[1]) > self._max_age_ns
        return AGE if old else ""

    def _drop(self, span: Span, reason: str) -> bool:
        # Windows that an earlier process cut from what is dropped now must not be gone on with.
        self._snapshots.drop_after(span[0])
        return self._journal.drop(span[0], reason, Following, span[1]) is not None

    def _thin(self, span: Span, reason: str) -> bool:
        """Whether room was looked for inside a segment; a disk without any has none for writing one anew."""
        if reason != FULL:
            # What is too old is so whatever its priority.
            return False
        self._snapshots.drop_after(span[0])
        try:
            found = self._journal.thin(span[0], reason, lambda key: RANKS[self._priority(key)], Following, span[1])
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
                raise
            return False
        return found is not None

    async def _over(self) -> bool:
        """Whether there is room again, nothing is near its age, and the database knows of all that was dropped."""
        if not self._journal.roomy or self._dispatcher.undecided():
            return False
        spans = self._dispatcher.unsent()
        if not self._max_age_ns:
            return True
        ages = [await blocking(self._journal.age_ns, after, times.now(), until) for after, until in spans]
        return max(ages, default=0) <= 3 * self._max_age_ns // 4

    def _ended(self) -> None:
        seconds = (times.now() - self._began_at) / times.NANOS
        readings = self._journal.dropped_readings - self._before
        log.warning(JOURNAL_DROPPED, reason=self.reason, readings=readings, seconds=round(seconds, 1))
        self.reason = ""

    def _failed(self, reason: str) -> None:
        """One line for each reason: it is tried again, and the journal stops when it is full meanwhile."""
        if reason != self._failing:
            log.error(JOURNAL_NOT_DROPPED, reason=reason)
        self._failing = reason
