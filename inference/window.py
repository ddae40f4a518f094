"""Readings in, windows out: a pure function of what is fed, vectorised, with a snapshot to go on from.

No I/O, no clock of its own, no randomness: the same sequence of calls gives the same windows, byte for byte, and a
`snapshot` with a `restore` between two calls changes nothing. The clock is the largest received time fed so far.

Order inside a tag is by source time. The same tag, time, value and status twice is one reading; the same time with
another value is two, and the later arrival (of a repeated one, the last) is in force.

A reading without a source time is ignored and counted (`untimed`) unless its input uses received time; one more than
10 minutes ahead of the clock is ignored and counted (`ahead`). A reading at or before a row that has closed is
counted (`late`); it stays out of closed rows, and is in force for later ones if it is not older than what is known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from hashlib import sha256
from typing import TYPE_CHECKING, Final, Self

import msgspec
import numpy as np

from inference import InferenceError
from inference.windower_between import Between
from inference.windower_context import Context, ContextValue
from inference.windower_grid import Grid
from inference.windower_message import Message
from inference.windower_route import FIRST_CONTEXT, MESSAGE, STOP, TRIGGER, Columns, Routing, Share
from inference.windower_spec import CYCLES, Input, Spec, Windows, cut
from inference.windower_together import Together
from inference.windower_trigger import Trigger

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import ArrayLike

SNAPSHOT_VERSION: Final = 1


class SnapshotError(InferenceError):
    """The snapshot is damaged, of another version, or of another spec. Rebuild the windows from the journal."""


class _Snapshot(msgspec.Struct, array_like=True):
    version: int
    spec: bytes
    """SHA-256 of the spec it was made with."""
    clock: int
    untimed: int
    ahead: int
    context: list[list[tuple[int, ContextValue]]]
    core: bytes


CORES: Final[Mapping[str, Callable[[Spec, Context], Grid | Trigger | Message]]] = {
    "grid": Grid, "trigger": Trigger, "between": Between, "message": Message,
}
"""What cuts the windows of each kind."""
_NEWER: Final[Mapping[str, object]] = {"stop": 0, "stop_connection": 0, "shape": ()}
"""Members that snapshots of earlier releases do not know, and what they are where nothing is said."""


def _digest(spec: Spec) -> bytes:
    said = {one.name: getattr(spec, one.name) for one in fields(spec)}
    known = {name: value for name, value in said.items() if name not in _NEWER or value != _NEWER[name]}
    return sha256(msgspec.msgpack.encode(known)).digest()


class Windower:
    """Cuts the windows of one spec from the readings it is fed."""

    def __init__(self, spec: Spec) -> None:
        """Nothing fed yet."""
        self.spec = spec
        self.clock = 0
        """ns: the largest received time fed so far."""
        self.untimed = 0
        """Readings without a source time, ignored."""
        self.ahead = 0
        """Readings too far in the future, ignored."""
        self._context = Context(tuple(name for name, _ in spec.context))
        self._core: Grid | Trigger | Message = CORES[spec.kind](spec, self._context)
        self._routing: Routing | None = None

    @property
    def late(self) -> int:
        """Readings that came after their row or cycle had closed."""
        return self._core.late

    @property
    def waiting(self) -> tuple[int, ...]:
        """Tags that hold up the first window: inputs without a usable value, or the trigger."""
        return self._core.waiting()

    def feed(
        self,
        connection: int,
        tags: ArrayLike,
        source_time: ArrayLike,
        values: ArrayLike,
        others: Mapping[int, object],
        status: ArrayLike,
        received_time: int,
        alive_until: int,
    ) -> Windows | None:
        """What this batch closed, None if nothing. The columns are those of `connectors.Batch`, shape (n,) each."""
        self._routing = self._routing or Routing([self.spec])
        columns = _columns(tags, source_time, values, others, status, received_time)
        clock = max(self.clock, received_time)
        (share,) = self._routing.split(columns, clock)
        return self.advance(connection, share, clock, alive_until)

    def tick(self, now: int) -> Windows | None:
        """What a recorded clock tick (ns) closed: a received time with no readings and no sign of life."""
        self.clock = max(self.clock, now)
        return self._core.close(self.clock)

    def advance(self, connection: int, share: Share | None, clock: int, alive_until: int) -> Windows | None:
        """What a batch closed of which `share` is for this windower. `clock` must not go back."""
        self.clock = clock
        self.take(connection, share, alive_until)
        return self._core.close(clock)

    @property
    def core(self) -> Grid | Trigger | Message:
        """What cuts: `Router` closes grids together."""
        return self._core

    def take(self, connection: int, share: Share | None, alive_until: int, *, news: bool = True) -> None:
        """What was read, or (no `news`) is in force before the first batch; it closes nothing."""
        self._core.hear(connection, alive_until)
        if share is not None:
            self._take(share, news=news)

    def lose(self, connection: int, share: Share | None, since: int, until: int) -> None:
        """What a connection sent between these times (ns) is gone but for the newest reading of each tag: `share`.

        It closes nothing. Rows and cycles that have any part of it are refused as a gap.
        """
        self._core.lose(connection, since, until)
        if share is not None:
            self._take(share, news=False)

    def _take(self, share: Share, *, news: bool) -> None:
        self.untimed += share.untimed
        self.ahead += share.ahead
        if len(share.readings):
            self._core.take(share.readings)
        for special in share.specials:
            if special.role == TRIGGER and isinstance(self._core, Trigger):
                self._core.change(special.time, special.value)
            elif special.role == STOP and isinstance(self._core, Between):
                self._core.stop(special.time, special.value)
            elif special.role == MESSAGE and isinstance(self._core, Message):
                self._core.message(special.time, special.message, special.status, news=news)
            else:
                self._context.take(FIRST_CONTEXT - special.role, special.time, special.value)

    def snapshot(self) -> bytes:
        """Everything needed to go on: msgpack with raw little-endian arrays, versioned."""
        return msgspec.msgpack.encode(_Snapshot(
            SNAPSHOT_VERSION, _digest(self.spec), self.clock, self.untimed, self.ahead,
            self._context.state(), self._core.snapshot(),
        ))

    @classmethod
    def restore(cls, spec: Spec, data: bytes) -> Self:
        """The windower as it was. Raises SnapshotError."""
        made = cls(spec)
        try:
            found = msgspec.msgpack.decode(data, type=_Snapshot)
            if found.version != SNAPSHOT_VERSION or found.spec != _digest(spec):
                message = "the snapshot is of another version or of another spec"
                raise SnapshotError(message)
            made.clock, made.untimed, made.ahead = found.clock, found.untimed, found.ahead
            made._context.resume(found.context)
            made._core.resume(found.core)
        except (ValueError, msgspec.MsgspecError) as error:
            message = f"the snapshot is damaged: {error}"
            raise SnapshotError(message) from error
        return made


class Router:
    """Many windowers fed together: each batch is looked at once, whatever their number.

    Equal to a `Windower` per spec that is fed the same calls.
    """

    def __init__(self, specs: Mapping[int, Spec]) -> None:
        """`specs`: by an id of the caller's, such as the pipeline version's."""
        self._windowers = {key: Windower(spec) for key, spec in specs.items()}
        self._routing = Routing(list(specs.values()))
        self._clock = 0
        self._grids = self._together()

    def _together(self) -> Together:
        cores = {key: one.core for key, one in self._windowers.items()}
        return Together({key: core for key, core in cores.items() if isinstance(core, Grid)})

    @property
    def windowers(self) -> Mapping[int, Windower]:
        """By the same ids: for counters, and for what holds up a start."""
        return self._windowers

    def feed(
        self,
        connection: int,
        tags: ArrayLike,
        source_time: ArrayLike,
        values: ArrayLike,
        others: Mapping[int, object],
        status: ArrayLike,
        received_time: int,
        alive_until: int,
    ) -> dict[int, Windows]:
        """What this batch closed, by id; ids that closed nothing are absent."""
        columns = _columns(tags, source_time, values, others, status, received_time)
        self._clock = max(self._clock, received_time)
        shares = self._routing.split(columns, self._clock)
        for windower, share in zip(self._windowers.values(), shares, strict=True):
            windower.take(connection, share, alive_until)
        return self._close()

    def _close(self) -> dict[int, Windows]:
        """Everything that is due by now, in the order of the specs."""
        grids = self._grids.close(self._clock)
        made: dict[int, Windows] = {}
        for key, windower in self._windowers.items():
            windower.clock = self._clock
            windows = grids.get(key) if isinstance(windower.core, Grid) else windower.core.close(self._clock)
            if windows is not None:
                made[key] = windows
        return made

    def prime(
        self,
        connection: int,
        tags: ArrayLike,
        source_time: ArrayLike,
        values: ArrayLike,
        others: Mapping[int, object],
        status: ArrayLike,
        now: int,
        alive_until: int,
    ) -> None:
        """Tell windowers that were never fed what is in force (the newest reading of each tag); it closes nothing.

        A tag that is reported by exception may not come again: without this they would wait for it. `now`: the
        largest received time so far, ns.
        """
        shares = self._routing.split(_columns(tags, source_time, values, others, status, now), now)
        for windower, share in zip(self._windowers.values(), shares, strict=True):
            if not windower.clock:
                windower.take(connection, share, alive_until, news=False)

    def lose(
        self,
        connection: int,
        tags: ArrayLike,
        source_time: ArrayLike,
        values: ArrayLike,
        others: Mapping[int, object],
        status: ArrayLike,
        since: int,
        until: int,
    ) -> None:
        """What a connection sent from `since` to `until` (received, ns) is gone, but for the newest of each tag: these.

        It closes nothing: the next batch or tick does, and refuses what has any part of the time between.
        """
        columns = _columns(tags, source_time, values, others, status, until)
        shares = self._routing.split(columns, max(self._clock, until))
        for windower, share in zip(self._windowers.values(), shares, strict=True):
            windower.lose(connection, share, since, until)

    def tick(self, now: int) -> dict[int, Windows]:
        """What a recorded clock tick (ns) closed, by id."""
        self._clock = max(self._clock, now)
        return self._close()

    def snapshot(self) -> bytes:
        """Everything needed to go on."""
        return msgspec.msgpack.encode({key: one.snapshot() for key, one in self._windowers.items()})

    @classmethod
    def restore(
        cls, specs: Mapping[int, Spec], data: bytes, heirs: Mapping[int, int] | None = None, anew: Collection[int] = ()
    ) -> Self:
        """The router as it was; ids it lacks start anew, ids that are gone are left out. Raises SnapshotError.

        `heirs`: ids that take up the open windows of another, whose spec is the same, and number theirs from 1;
        `anew`: ids that start anew though it has them.
        """
        made = cls(specs)
        try:
            found = msgspec.msgpack.decode(data, type=dict[int, bytes])
        except msgspec.MsgspecError as error:
            message = f"the snapshot is damaged: {error}"
            raise SnapshotError(message) from error
        for key, spec in specs.items():
            if key in anew:
                continue
            if key in found:
                made._windowers[key] = Windower.restore(spec, found[key])
            elif (heirs or {}).get(key) in found:
                made._windowers[key] = Windower.restore(spec, found[(heirs or {})[key]])
                made._windowers[key].core.renumber()
        made._grids = made._together()
        made._clock = max((one.clock for one in made._windowers.values()), default=0)
        return made


def _columns(
    tags: ArrayLike, source_time: ArrayLike, values: ArrayLike, others: Mapping[int, object], status: ArrayLike,
    received_time: int,
) -> Columns:
    return Columns(
        np.asarray(tags, np.int64), np.asarray(source_time, np.int64), np.asarray(values, np.float64), others,
        np.asarray(status, np.uint32), received_time,
    )


__all__ = ["CYCLES", "Input", "Router", "SnapshotError", "Spec", "Windower", "Windows", "cut"]
