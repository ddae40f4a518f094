"""The journal's records in order, into windows: a pure function of the journal, with snapshots to go on from."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import msgspec

from app.field.latest import Latest, kept_in, left_in_force
from app.field.snapshots import VERSION, Snapshot
from app.journal.frames import Position
from app.log import SNAPSHOT_UNUSABLE, WINDOWS_UNREADABLE, get_logger
from app.records import Leased, decode_columns, to_block
from inference.window import Router, SnapshotError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from app.field.snapshots import Snapshots
    from app.journal import Entry
    from app.journal.remains import Remains
    from app.pipelines.service import Version
    from app.records import DroppedRecord, Record, WindowBlock
    from inference.window import Spec, Windows

log = get_logger(__name__)

NO_LEASES: Final = Leased({}, {})
"""Where there is one gateway."""


class Windowing:
    """Feeds every journal record to the windows of every pipeline version in force."""

    def __init__(self) -> None:
        """Call `start` next."""
        self.position: Position | None = None
        """The last record that was fed."""
        self.versions: tuple[int, ...] = ()
        """In force at `position`, in the order of their ids."""
        self._specs: dict[int, Spec] = {}
        self._cells: dict[int, str] = {}
        self._router = Router({})
        self._latest = Latest()
        self._leased = NO_LEASES

    def start(self, first: Position, safe: Position, snapshots: Snapshots, known: Mapping[int, Version]) -> None:
        """Go on from the newest snapshot at or before `safe`, else from the journal's first record, nothing in force.

        `known`: the versions that any snapshot may name. Blocking: reads files.
        """
        limit = safe
        while True:
            found = snapshots.newest(limit)
            if found is None or found.position < first:
                self.position, self.versions = first, ()
                return
            specs = _specs(found.versions, known)
            try:
                router, latest = Router.restore(specs, found.router), Latest(found.clock, found.latest)
            except (SnapshotError, ValueError) as error:
                log.warning(SNAPSHOT_UNUSABLE, epoch=found.epoch, number=found.number, reason=str(error))
                limit = found.position._replace(number=found.number - 1)
                continue
            self.position, self.versions, self._specs = found.position, found.versions, specs
            self._cells = _cells(specs, known)
            self._router, self._latest, self._leased = router, latest, found.leased or NO_LEASES
            return

    def resume(self, other: Windowing) -> None:
        """Go on from where another one stands, each by itself from now on."""
        self.position, self.versions = other.position, other.versions
        self._specs, self._cells = dict(other._specs), dict(other._cells)
        self._router = Router.restore(self._specs, other._router.snapshot())
        self._latest = Latest(other._latest.clock, other._latest.kept())
        self._leased = msgspec.structs.replace(other._leased, starts=dict(other._leased.starts))

    def switch(
        self, position: Position, versions: Iterable[int], known: Mapping[int, Version], leased: Leased | None = None
    ) -> None:
        """From this record on cut the windows of these versions: those already in force go on.

        A new version of a pipeline that cuts as the last one did takes up its open windows, so that none is missing;
        others begin with the newest reading of every tag. Under another term of a lease all begins anew: other
        gateways have read meanwhile.
        """
        before, self.versions = self.versions, tuple(versions)
        self._specs = _specs(self.versions, known)
        self._cells = _cells(self._specs, known)
        anew = self._lease(leased or self._unleased())
        self._router = Router.restore(self._specs, self._router.snapshot(), _heirs(before, self.versions, known), anew)
        self._latest.prime(self._router)
        self.position = position

    def _unleased(self) -> Leased:
        """There is one gateway now: numbers go on where they were."""
        kept = {key: one for key, one in self._leased.starts.items() if key in self.versions}
        return Leased({}, {key: msgspec.structs.replace(one, term=0) for key, one in kept.items()})

    def _lease(self, leased: Leased) -> set[int]:
        """Other leases are in force; returns the versions that are cut under a term that is new here."""
        before, self._leased = self._leased, msgspec.structs.replace(leased, starts=dict(leased.starts))
        self._latest.forget(key for key, term in leased.terms.items() if before.terms.get(key) != term)
        anew = set()
        for version, start in leased.starts.items():
            known = before.starts.get(version)
            if known is not None and (known.connection, known.term) == (start.connection, start.term):
                # Windows were cut under it: their numbers go on from there.
                self._leased.starts[version] = known
            elif start.term and before.terms.get(start.connection) != start.term:
                anew.add(version)
        return anew

    def term(self, connection: int) -> int:
        """Of the lease under which records of this connection are read here; 0 where there is one gateway."""
        return self._leased.terms.get(connection, 0)

    def feed(self, entry: Entry) -> list[WindowBlock]:
        """What this record closed."""
        self.position = entry.position
        if entry.record is None or entry.record.fill is not None:
            # What was read from a history is no news: its windows are computed again elsewhere, and marked late.
            return []
        closed = self._feed(entry.record)
        return [block for version, windows in closed.items() if (block := self._block(version, windows)) is not None]

    def _block(self, version: int, windows: Windows) -> WindowBlock | None:
        """As it travels; under a lease without what was answered in an earlier term, and numbered on from there."""
        start = self._leased.starts.get(version)
        if start is None:
            return to_block(version, windows, self._cells[version])
        fresh = windows.end_time > start.after
        if not fresh.all():
            start = msgspec.structs.replace(start, first=start.first - int((~fresh).sum()))
            self._leased.starts[version] = start
            windows = windows.picked(fresh)
        numbered = replace(windows, sequence=windows.sequence + (start.first - 1))
        return to_block(version, numbered, self._cells[version], start) if len(numbered) else None

    def _feed(self, record: Record) -> dict[int, Windows]:
        if record.connection == 0:
            return self._router.tick(record.received_time)
        if record.dropped is not None and record.dropped.until:
            self._miss(record, record.dropped)
        if not record.count:
            self._latest.hear(record.connection, record.received_time, record.alive_until, None)
            return self._router.feed(record.connection, (), (), (), {}, (), record.received_time, record.alive_until)
        try:
            columns = decode_columns(record.columns)
        except ValueError as error:
            log.exception(WINDOWS_UNREADABLE, position=self.position, reason=str(error))
            return {}
        self._latest.hear(record.connection, record.received_time, record.alive_until, columns)
        return self._router.feed(record.connection, *columns, record.received_time, record.alive_until)

    def _miss(self, record: Record, gone: DroppedRecord) -> None:
        """Readings were dropped, of this record and others up to a time: windows that have any part are refused."""
        columns = None
        try:
            columns = left_in_force(record)
        except ValueError as error:
            log.exception(WINDOWS_UNREADABLE, position=self.position, reason=str(error))
        self._latest.hear(record.connection, record.received_time, record.alive, columns)
        tags, times, values, others, status = columns or ((), (), (), {}, ())
        self._router.lose(record.connection, tags, times, values, others, status, gone.since, gone.until)

    def lose(self, remains: Remains) -> None:
        """Records were dropped here: it closes nothing. Windows that have any part of them are refused, by quality.

        After them the newest reading of each tag is in force: of those that were dropped, where none came since.
        """
        self.position = Position(remains.epoch, remains.last)
        kept = {}
        try:
            kept = {one.connection: decode_columns(one.columns) for one in kept_in(remains.kept) if one.columns}
        except ValueError as error:
            log.exception(WINDOWS_UNREADABLE, position=self.position, reason=str(error))
        for part in remains.parts:
            if part.filling or part.until < part.since:
                continue
            columns = kept.get(part.connection)
            self._latest.hear(part.connection, part.until, part.until, columns)
            tags, times, values, others, status = columns or ((), (), (), {}, ())
            self._router.lose(part.connection, tags, times, values, others, status, part.since, part.until)

    def alive_until(self, connection: int) -> int:
        """ns: up to when a connection was alive, as far as the journal was fed; negative when it never was."""
        return self._latest.alive_until(connection)

    def snapshot(self) -> Snapshot | None:
        """As it stands between two records; None before `start`."""
        if self.position is None:
            return None
        router, latest = self._router.snapshot(), self._latest
        leased = msgspec.structs.replace(self._leased, starts=dict(self._leased.starts))
        return Snapshot(VERSION, *self.position, self.versions, router, latest.clock, latest.kept(), leased)


def _specs(versions: Iterable[int], known: Mapping[int, Version]) -> dict[int, Spec]:
    """Versions that are not known (any more) have no windows."""
    return {version: known[version].windows for version in versions if version in known}


def _heirs(before: Iterable[int], versions: Iterable[int], known: Mapping[int, Version]) -> dict[int, int]:
    """For each version that is new, the one it replaces, where both cut the same windows of the same tags."""
    replaced = {(known[old].pipeline_id, known[old].windows): old for old in before if old in known}
    named = ((new, (known[new].pipeline_id, known[new].windows)) for new in versions if new in known)
    return {new: replaced[key] for new, key in named if key in replaced}


def _cells(versions: Iterable[int], known: Mapping[int, Version]) -> dict[int, str]:
    """Element type, little-endian, in which the windows of each version travel."""
    return {version: "<f4" if known[version].spec.cells == "float32" else "<f8" for version in versions}


def next_due(specs: Iterable[Spec], clock: int, newest: int) -> int | None:
    """When the next window may close by the clock alone (ns); None when none can.

    `clock`: the newest received time that was journaled; `newest`: that of the newest record with readings. A grid
    closes a row at its time + lateness; a trigger that came with the newest readings is due its lateness after them.
    """
    due = [at for spec in specs if (at := _due(spec, clock, newest)) > clock]
    return min(due, default=None)


def _due(spec: Spec, clock: int, newest: int) -> int:
    if spec.kind != "grid":
        return newest + spec.lateness_ns + 1
    hop = spec.step_ns * spec.hop
    return ((clock - spec.lateness_ns) // hop + 1) * hop + spec.lateness_ns
