"""A watchdog on data: tags of which nothing is told are read once in a while, so that silence means "unchanged".

A server may delete a node without a word, or go on with keep-alives while an item of ours tells nothing any more. What
it holds is compared with what it told last; only who differs at two reads in a row, with nothing told between them, has
fallen silent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds

from connectors import Status
from connectors.opcua import notification
from connectors.opcua.space import halving

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from connectors.opcua.decode import Changes
    from connectors.opcua.session import Session

CACHED: Final = 2**31 - 1
"""A MaxAge of this or more asks for what the server has at hand: no device is read for us (IEC 62541-4, 5.10.2)."""
AT_ONCE: Final = 500
BAD: Final = 2
CODE: Final = np.uint32(0xFFFF0000)
"""Of a StatusCode, without what it says beside (IEC 62541-4, 7.39)."""
LONGEST_S: Final = 3600.0
SLOW: Final = 3
"""Sampling intervals that may pass before a tag is asked for."""
ANY: Final = np.inf
"""As a tolerance: whatever the value is, nothing follows from it."""


@dataclass(frozen=True, slots=True)
class Held:
    """What a server holds of one node."""

    status: int
    value: float
    """NaN where it is no number."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a look at tags that were silent."""

    gone: Mapping[int, int]
    """Handle -> StatusCode: the node is not there any more."""
    mute: tuple[int, ...]
    """Handles of which something was to be told, and was not."""


class Silence:
    """What was told last of every monitored item, by client handle, and when to ask for it. Times are monotonic, s."""

    def __init__(self, check_s: float) -> None:
        """`check_s`: how long a tag may be silent until it is asked for, and between two times it is."""
        self._check_s = check_s
        self._watched: set[int] = set()
        self._due = np.zeros(0)
        self._pause, self._tolerance, self._value = np.zeros(0), np.zeros(0), np.zeros(0)
        self._status = np.zeros(0, dtype=np.uint32)
        self._told, self._fresh, self._suspect = (np.zeros(0, dtype=bool) for _ in range(3))

    def watch(self, tolerances: Mapping[int, float], sampling_s: Mapping[int, float], now: float, *, new: bool) -> None:
        """These items are monitored now, and no others. Of those that were before all is kept.

        `tolerances`: how far a number may move without being told; `sampling_s`: of items that are sampled slowly.
        `new`: whether the others have just been made, so that the server owes a first value (IEC 62541-4, 5.12.1.2).
        """
        self._grow(max(tolerances, default=-1) + 1)
        for handle in self._watched - tolerances.keys():
            self._due[handle] = np.inf
        added = [handle for handle in tolerances if handle not in self._watched]
        self._watched = set(tolerances)
        self._tolerance[list(tolerances)] = list(tolerances.values())
        at = np.array(added, dtype=np.intp)
        self._pause[at] = [max(self._check_s, SLOW * sampling_s.get(handle, 0.0)) for handle in added]
        self._due[at] = now + self._pause[at]
        self._told[at] = self._suspect[at] = False
        self._fresh[at] = new

    def _grow(self, size: int) -> None:
        more = size - len(self._due)
        if more <= 0:
            return
        self._due = np.concatenate([self._due, np.full(more, np.inf)])
        self._pause, self._tolerance, self._value = (
            np.concatenate([one, np.zeros(more)]) for one in (self._pause, self._tolerance, self._value)
        )
        self._status = np.concatenate([self._status, np.zeros(more, dtype=np.uint32)])
        self._told, self._fresh, self._suspect = (
            np.concatenate([one, np.zeros(more, dtype=bool)]) for one in (self._told, self._fresh, self._suspect)
        )

    def heard(self, part: Changes, now: float) -> None:
        """The server has told this."""
        handles = part.handles
        if len(handles) and int(handles.max()) >= len(self._due):
            keep = handles < len(self._due)
            self._note(handles[keep], part.values[keep], part.status[keep], now)
        else:
            self._note(handles, part.values, part.status, now)

    def _note(
        self, handles: NDArray[np.uint32], values: NDArray[np.float64], status: NDArray[np.uint32], now: float
    ) -> None:
        self._value[handles], self._status[handles] = values, status
        watched = handles[np.isfinite(self._due[handles])]
        self._due[watched] = now + self._pause[watched]
        self._told[watched], self._suspect[watched] = True, False

    def due(self, now: float, most: int = AT_ONCE) -> list[int]:
        """Tags that have been silent for long enough to be asked for."""
        return [int(handle) for handle in np.flatnonzero(self._due <= now)[:most]]

    def judge(self, found: Mapping[int, Held | None], asked_at: float, now: float) -> Verdict:
        """What follows from what the server holds. Who was heard of since it was asked is left alone."""
        gone: dict[int, int] = {}
        mute: list[int] = []
        for handle, held in found.items():
            if handle not in self._watched or self._due[handle] > asked_at:
                continue
            self._due[handle] = now + self._pause[handle]
            if held is None or (Status.severity(held.status) == BAD and held.status != Status.BAD_NODE_ID_UNKNOWN):
                # That we may not read it, or that there is no value now, says nothing of what is told.
                continue
            if held.status == Status.BAD_NODE_ID_UNKNOWN:
                gone[handle] = held.status
            elif self._differs(handle, held):
                if self._suspect[handle]:
                    mute.append(handle)
                self._suspect[handle] = True
            else:
                self._suspect[handle] = False
        return Verdict(gone, tuple(mute))

    def _differs(self, handle: int, held: Held) -> bool:
        """Whether the server should have told something. What is first seen after a resumption is taken as told."""
        if not self._told[handle]:
            if self._fresh[handle]:
                return True
            self._value[handle], self._status[handle], self._told[handle] = held.value, held.status, True
            return False
        if (int(self._status[handle]) ^ held.status) & int(CODE):
            return True
        told, tolerance = float(self._value[handle]), float(self._tolerance[handle])
        if np.isnan(told) or np.isnan(held.value):
            return bool(np.isnan(told) != np.isnan(held.value))
        return abs(told - held.value) > tolerance

    def again(self, handles: Iterable[int]) -> None:
        """These are monitored anew; who falls silent again is asked for half as often each time."""
        for handle in handles:
            if handle in self._watched:
                self._pause[handle] = min(2 * self._pause[handle], max(LONGEST_S, self._check_s))
                self._told[handle] = self._suspect[handle] = False
                self._fresh[handle] = True


async def held(session: Session, nodes: Sequence[ua.NodeId], at_once: int) -> list[Held | None]:
    """What a server has at hand of each node; None where that cannot be read. Raises NotConnectedError."""

    async def ask(some: Sequence[ua.NodeId]) -> list[Held | None]:
        request = ua.ReadRequest()
        request.Parameters.MaxAge = CACHED
        request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Neither
        request.Parameters.NodesToRead = [ua.ReadValueId(one, ua.IntegerId(AttributeIds.Value)) for one in some]
        found, _ = notification.read(await session.request(request))
        rows = [Held(*row) for row in zip(found.status.tolist(), found.values.tolist(), strict=True)]
        return [*rows[: len(some)], *[None] * (len(some) - len(rows))]

    return await halving(ask, nodes, at_once, "asking for silent tags")
