"""Polling, for servers without subscriptions: every value read at each interval, told only when it has changed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.uaerrors import UaStatusCodeError

from connectors import ConnectorError, NotConnectedError
from connectors.opcua import notification
from connectors.opcua.border import TOO_MUCH, border
from connectors.opcua.decode import Changes, UndecodableError
from connectors.opcua.polled import Scan
from connectors.opcua.space import ns0
from connectors.opcua.subscription import MOST_WAITING, Taken

if TYPE_CHECKING:
    from connectors.opcua.options import Options
    from connectors.opcua.session import Session

SERVER_STATE: Final = ns0(ObjectIds.Server_ServerStatus_State)
HEARTBEAT_S: Final = 1.0
SLOW: Final = 1.5
"""Times the interval that a round may take before it is told."""
UNSUPPORTED: Final = frozenset({int(StatusCodes.BadServiceUnsupported), int(StatusCodes.BadNotImplemented)})


def is_needed(error: NotConnectedError) -> bool:
    """Whether it was for want of subscriptions that there is no connection."""
    cause = error.__cause__
    return isinstance(cause, UaStatusCodeError) and cause.code in UNSUPPORTED


class Asked:
    """What is read, by client handle; see `Monitored`, whose place it takes."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.ids: dict[int, int] = {}
        """Every handle that is read, as if the server had given it an id."""
        self.items: dict[int, tuple[ua.NodeId, ua.MonitoringParameters]] = {}
        self.version = 0

    async def create(self, items: Sequence[ua.MonitoredItemCreateRequest], at_once: int) -> list[int]:
        """Read these too, from the next round on: that tells what cannot be read."""
        del at_once
        for item in items:
            handle = int(item.RequestedParameters.ClientHandle)
            self.ids[handle] = handle
            self.items[handle] = item.ItemToMonitor.NodeId, item.RequestedParameters
        self.version += 1
        return [0] * len(items)

    async def modify(self, wanted: Mapping[int, ua.MonitoringParameters], at_once: int) -> list[int]:
        """Compare these differently."""
        del at_once
        for handle, parameters in wanted.items():
            self.items[handle] = self.items[handle][0], parameters
        self.version += 1
        return [0] * len(wanted)

    async def remove(self, handles: Iterable[int], at_once: int) -> None:
        """Read these no longer."""
        del at_once
        for handle in handles:
            self.ids.pop(handle, None)
            self.items.pop(handle, None)
        self.version += 1


class Polling:
    """In the place of a `Subscription`, on one session. Nothing is acknowledged, and nothing can be resumed."""

    def __init__(self, session: Session, options: Options, at_once: int) -> None:
        """Nothing is read yet. `at_once`: nodes in one request, as the server limits it (MaxNodesPerRead)."""
        self._session = session
        self._interval_s = options.publishing_interval_ms / 1000
        self._as_told = options.polling
        self._at_once = at_once
        self.monitored = Asked()
        self._scan = Scan({}, None)
        self._version = -1
        self._taken = Taken()
        self._round_s = 0.0
        self._told = 0.0
        """Monotonic, s: when something was last put there to be taken."""
        self._error: ConnectorError | None = None
        self._news, self._room = asyncio.Event(), asyncio.Event()
        self._pump_task: asyncio.Task[None] | None = None

    async def create(self, items: Sequence[ua.MonitoredItemCreateRequest], at_once: int) -> list[int]:
        """Begin with these; returns one StatusCode per item."""
        results = await self.monitored.create(items, at_once)
        self._pump_task = asyncio.create_task(self._pump())
        return results

    def notes(self) -> tuple[str, ...]:
        """That it polls, why, and whether that is too much."""
        why = "as configured" if self._as_told else "since the server has no subscriptions"
        found = [f"polled every {self._interval_s:g} s, {why}: what comes and goes between two reads is not seen"]
        if self._round_s > SLOW * self._interval_s:
            found.append(
                f"a round of reads takes {self._round_s:.2g} s: raise `publishing_interval_ms`, or `requests_per_s`"
            )
        return tuple(found)

    async def ready(self, most: int = MOST_WAITING) -> None:
        """Wait until something can be taken. NotConnectedError when the connection is lost."""
        del most
        while not self.something_waits:
            if self._error is not None:
                raise self._error
            self._news.clear()
            await self._news.wait()

    @property
    def something_waits(self) -> bool:
        """Whether `take` has something to give."""
        return self._taken.received_ns > 0

    def take(self, most: int) -> Taken:
        """All that has arrived. Does not wait."""
        del most
        taken, self._taken = self._taken, Taken()
        self._room.set()
        return taken

    def acknowledge(self, sequences: Sequence[int]) -> None:
        """A server that is polled keeps nothing for us."""

    async def _pump(self) -> None:
        """Round after round on a beat that does not drift; a beat that was missed is left out."""
        due = time.monotonic()
        try:
            async with border("polling"):
                while True:
                    await self._session.renew_if_due()
                    began = time.monotonic()
                    await self._round()
                    self._round_s = time.monotonic() - began
                    while self._taken.rows >= MOST_WAITING:
                        self._room.clear()
                        await self._room.wait()
                    now = time.monotonic()
                    due += max(1, -(-(now - due) // self._interval_s)) * self._interval_s
                    await asyncio.sleep(due - now)
        except ConnectorError as error:
            self._error = error
        except UndecodableError as error:
            self._error = NotConnectedError(f"the server sent what is not OPC UA: {error}")
            self._error.__cause__ = error
        finally:
            self._news.set()

    async def _round(self) -> None:
        """Read everything once; a round that is not whole is not told. UndecodableError for too few or many values."""
        began = time.time_ns()
        if self._version != self.monitored.version:
            self._scan, self._version = Scan(self.monitored.items, self._scan), self.monitored.version
        scan, changes, broken, start = self._scan, list[Changes](), list[tuple[str, int]](), 0
        # Without tags the server is asked for its own state: a sign of life.
        nodes = scan.nodes or [SERVER_STATE]
        while start < len(nodes):
            try:
                request = _read(nodes[start : start + self._at_once])
                found, wrong = notification.read(await self._session.request(request))
            except UaStatusCodeError as error:
                if error.code not in TOO_MUCH or self._at_once == 1:
                    raise
                self._at_once = max(1, min(self._at_once, len(nodes)) // 2)
                continue
            asked = len(request.Parameters.NodesToRead)
            if len(found.handles) + sum(n for _, n in wrong) != asked:
                message = f"{len(found.handles)} values for {asked} nodes"
                raise UndecodableError(message)
            if scan.nodes:
                changes.append(scan.changed(start, found))
            broken += wrong
            start += self._at_once
        self._tell([one for one in changes if len(one.handles)], broken, began)

    def _tell(self, changes: list[Changes], broken: list[tuple[str, int]], began: int) -> None:
        now = time.monotonic()
        self._taken.alive_ns = began
        if not changes and not broken and not self.something_waits and now - self._told < HEARTBEAT_S:
            return
        taken, self._told = self._taken, now
        taken.parts += changes
        taken.broken += broken
        taken.rows += sum(len(one.handles) for one in changes)
        taken.received_ns = time.time_ns()
        self._news.set()

    async def close(self) -> None:
        """Read no more."""
        if self._pump_task is not None:
            self._pump_task.cancel()
            await asyncio.gather(self._pump_task, return_exceptions=True)
            self._pump_task = None


def _read(nodes: Sequence[ua.NodeId]) -> ua.ReadRequest:
    request = ua.ReadRequest()
    request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Source
    request.Parameters.NodesToRead = [ua.ReadValueId(node, ua.IntegerId(AttributeIds.Value)) for node in nodes]
    return request


