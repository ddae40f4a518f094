"""One Modbus connection from its opening to its loss, and what was learned about the device meanwhile."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from typing import Final
from urllib.parse import urlsplit

from connectors import Batch, NotConnectedError, NotInstalledError, Status
from connectors.modbus.address import ADDRESSES, BITS
from connectors.modbus.options import Options
from connectors.modbus.plan import ROUNDING, Beat, blocks
from connectors.modbus.values import Answer, Point, Rows, Span

INSTALLED: Final = find_spec("pymodbus") is not None
"""The library is an extra; a plant file is checked without it."""
if INSTALLED:
    from pymodbus import ModbusException
    from pymodbus.client import AsyncModbusTcpClient

# The caller hears of an outage as an exception, once; the library would write a line for every request.
logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL + 1)

PORT: Final = 502
MOST_RETRIES: Final = 8
"""Bad addresses asked again in one beat of a group, so that many of them do not delay the others."""
SPLIT: Final = frozenset({2, 3})
"""Illegal data address and illegal data value: something in the block is not there; which, smaller blocks tell."""
LASTING: Final = frozenset({1, 2, 3})
"""What will not be there at the next beat either."""
STATUS: Final = {
    1: Status.BAD_NODE_ID_UNKNOWN,
    2: Status.BAD_NODE_ID_UNKNOWN,
    3: Status.BAD_OUT_OF_RANGE,
    5: Status.BAD_DATA_UNAVAILABLE,
    6: Status.BAD_DATA_UNAVAILABLE,
    10: Status.BAD_NO_COMMUNICATION,
    11: Status.BAD_NO_COMMUNICATION,
}
"""Exception code (Modbus Application Protocol V1.1b3, 7) -> status; any other is a communication error."""
FAILED: Final = 4
"""Server device failure: what an answer of the wrong length is taken for."""
SILENT: Final = 11
"""Gateway target did not respond: what a unit that does not answer is taken for."""

Groups = Mapping[str | None, Mapping[Span, Sequence[Point]]]
"""Group -> address -> the tags that are read there; None is the group of tags without one."""


class Session:
    """Asks one request at a time, as devices that take no second one are common."""

    def __init__(self, options: Options, groups: Groups, revision: int) -> None:
        """Nothing is opened yet. NotInstalledError."""
        if not INSTALLED:
            message = "connector 'modbus' needs the package 'pymodbus': install headrace[modbus]"
            raise NotInstalledError(message)
        self._options, self._groups, self._revision = options, groups, revision
        self._units = {span.unit for spans in groups.values() for span in spans}
        self._lost = asyncio.Event()
        self._client = self._make_client()
        self._quiet: dict[int, float] = {}
        """Unit that does not answer -> when it is asked again."""
        self._bad: dict[Span, float] = {}
        """Address that is not there -> when it is asked again."""
        self._cuts: set[Span] = set()
        self._plans: dict[str | None, list[list[Span]]] = {}
        self._last: dict[tuple[str | None, Span], Answer] = {}
        self._beats: dict[str | None, Beat] = {}
        self._due: dict[str | None, float] = {}
        self._full: dict[str | None, float] = {}
        """At which beat all of a group was reported last."""
        self._fresh: set[int] = set()
        """Ids of tags that have had no reading yet."""
        self.asking = False
        """Whether requests are under way; they cannot be taken back."""

    def _make_client(self) -> AsyncModbusTcpClient:
        parts = urlsplit(self._options.url)
        client = AsyncModbusTcpClient(
            str(parts.hostname),
            port=parts.port or PORT,
            timeout=self._options.timeout_s,
            retries=0,
            reconnect_delay=0,
            trace_connect=self._connection_changed,
        )
        # It is for us to say how many units may be silent.
        client.set_max_no_responses(ADDRESSES)
        return client

    def _connection_changed(self, up: bool) -> None:  # noqa: FBT001 - the library calls it so
        if not up:
            self._lost.set()

    async def open(self) -> None:
        """Connect; the first beat is now. NotConnectedError."""
        if not await self._client.connect():
            message = f"{self._options.url} takes no connection within {self._options.timeout_s:g} s"
            raise NotConnectedError(message)
        now = time.monotonic()
        for group in self._groups:
            self._start(group, now)

    def _start(self, group: str | None, now: float) -> None:
        period = self._options.poll_s if group is None else self._options.groups[group]
        self._beats[group], self._due[group], self._full[group] = Beat(now, period), now, now

    def rebind(self, groups: Groups, revision: int, fresh: Collection[int]) -> None:
        """Read other tags from now on; groups of `fresh` ones, by their ids, are read at once and stay on their beat.

        What is known of addresses that are still read is kept.
        """
        self._groups, self._revision = groups, revision
        spans = {span for group in groups.values() for span in group}
        self._units = {span.unit for span in spans}
        self._fresh = (self._fresh | set(fresh)) & {tag for group in groups.values() for tag in _ids(group)}
        self._plans.clear()
        self._bad = {span: at for span, at in self._bad.items() if span in spans}
        self._cuts &= spans
        self._last = {key: answer for key, answer in self._last.items() if key[1] in groups.get(key[0], ())}
        now = time.monotonic()
        for group in self._beats.keys() - groups.keys():
            del self._beats[group], self._due[group], self._full[group]
        for group in groups:
            if group not in self._beats:
                self._start(group, now)
            elif self._fresh & set(_ids(groups[group])):
                self._due[group] = now

    def close(self) -> None:
        """Let go of the device."""
        self._client.close()

    async def poll(self) -> Batch:
        """Wait for the next beat, read the groups whose beat it is, and report what has changed. NotConnectedError."""
        due = min(self._due.values())
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, due - time.monotonic())):
                await self._lost.wait()
        if self._lost.is_set():
            raise NotConnectedError(self._gone())
        rows, now = Rows(), max(due, time.monotonic())
        self.asking = True
        for group in [group for group, at in self._due.items() if at <= now]:
            await self._read_group(group, rows)
            self._due[group] = self._beats[group].after(max(now, time.monotonic()))
        self.asking = False
        return rows.batch(self._revision)

    def _gone(self) -> str:
        return f"{self._options.url} has closed the connection"

    async def _read_group(self, group: str | None, rows: Rows) -> None:
        spans = self._groups[group]
        if group not in self._plans:
            self._plans[group] = list(blocks(spans, self._options, self._bad, self._cuts))
        now = time.monotonic()
        again = sorted((at, span) for span, at in self._bad.items() if at <= now and span in spans)
        found: dict[Span, tuple[Answer, int]] = {}
        for block in [*self._plans[group], *([span] for _, span in again[:MOST_RETRIES])]:
            await self._take(block, found)
        self._report(group, found, rows)

    def _report(self, group: str | None, found: Mapping[Span, tuple[Answer, int]], rows: Rows) -> None:
        """Readings of what was answered differently than before, or of everything when that is due."""
        every, beat = self._options.refresh_s, self._due[group]
        full = every is not None and beat - self._full[group] >= every - ROUNDING
        if full:
            self._full[group] = beat
        for span, points in self._groups[group].items():
            last = self._last.get((group, span))
            answer, when = found.get(span, (last, time.time_ns()))
            if answer is None:
                continue
            told = points if full or answer != last else [one for one in points if one.tag.id in self._fresh]
            self._last[group, span] = answer
            for point in told:
                rows.put(point, answer, when)
                self._fresh.discard(point.tag.id)

    async def _take(self, block: list[Span], found: dict[Span, tuple[Answer, int]]) -> bool:
        """Read a block, or its halves where the device says that something in it is not there; whether it was whole."""
        first = block[0]
        answer, code = await self._ask(first._replace(size=max(span.end for span in block) - first.start))
        if code in SPLIT and len(block) > 1:
            half = len(block) // 2
            left, right = await self._take(block[:half], found), await self._take(block[half:], found)
            if left and right:
                # Either half is there: it is the gap between them that is not, or the whole is too long for the device.
                self._cuts.add(block[half])
                self._plans.clear()
            return False
        # A reading's source time is when its answer came: Modbus has no time of its own, and a poll may take seconds.
        now = time.time_ns()
        for span in block:
            raw = answer[span.start - first.start : span.end - first.start]
            found[span] = (STATUS.get(code, Status.BAD_COMMUNICATION_ERROR) if code else raw, now)
        self._remember(block, code)
        return code not in LASTING

    def _remember(self, block: list[Span], code: int) -> None:
        """What is not there is asked for by itself, and rarely; what is there again joins its neighbours."""
        known = [span for span in block if span in self._bad]
        if code in LASTING:
            self._bad |= dict.fromkeys(block, time.monotonic() + self._options.retry_bad_s)
        elif not code:
            for span in known:
                del self._bad[span]
        if (code in LASTING) != bool(known):
            self._plans.clear()

    async def _ask(self, span: Span) -> tuple[tuple[int, ...], int]:
        """What the device has there and 0, or nothing and an exception code. NotConnectedError when nobody answers."""
        if self._quiet.get(span.unit, 0.0) > time.monotonic():
            return (), SILENT
        try:
            answer = await READ[span.table](self._client, span.start, count=span.size, device_id=span.unit)
        except ModbusException as error:
            if self._lost.is_set():
                raise NotConnectedError(self._gone()) from error
            self._quiet[span.unit] = time.monotonic() + self._options.retry_bad_s
            if self._quiet.keys() >= self._units:
                message = f"{self._options.url} does not answer within {self._options.timeout_s:g} s"
                raise NotConnectedError(message) from error
            return (), SILENT
        self._quiet.pop(span.unit, None)
        if answer.isError():
            return (), answer.exception_code or FAILED
        raw = tuple(answer.bits if span.table in BITS else answer.registers)
        return (raw, 0) if len(raw) >= span.size else ((), FAILED)


def _ids(group: Mapping[Span, Sequence[Point]]) -> Iterator[int]:
    return (point.tag.id for points in group.values() for point in points)


if INSTALLED:
    READ: Final = {
        "coil": AsyncModbusTcpClient.read_coils,
        "discrete": AsyncModbusTcpClient.read_discrete_inputs,
        "holding": AsyncModbusTcpClient.read_holding_registers,
        "input": AsyncModbusTcpClient.read_input_registers,
    }
