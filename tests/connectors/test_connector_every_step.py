"""A peer that dies, falls silent or talks nonsense at any step of the protocol, for every connector with a network.

The steps are those of a good connection, seen by a gate that knows the protocol's messages. At each of them the peer
fails in each way, many connections beside each other.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import os
import re
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import pytest

import connectors
from connectors import ConnectionConfig, Connector, ConnectorError, NotConnectedError, Source
from tests.connectors.message_gate import FAULTS, GARBAGE, MessageGate
from tests.connectors.peering import Peer
from tests.waiting import wait_for

if TYPE_CHECKING:
    from tests.connectors.message_gate import Framing, Step

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]

TIMEOUT_S: Final = 3.0
"""Of the connector, for each answer."""
NOTICED_S: Final = 12.0
"""What a failure may take until it is an error: a silent OPC UA server is one after three keep-alives of a second."""
CLOSED_S: Final = 2 * TIMEOUT_S + 1
ALIVE_S: Final = 1.0
"""How long a connection is watched that nonsense has not broken."""
REACHED_S: Final = 40.0
BESIDE: Final = 24
FEW: Final = 6
"""Hosts of one edge node beside each other: it tells its births to all of them whenever one asks."""
SEEDS: Final = 3
"""Spoilt bytes for each message."""
BATCHES: Final = 4
"""Of a good connection, so that acknowledgements are among its steps."""
CLIENT: Final = re.compile(r"(?<!tests)/connectors/|/asyncua/client/|/pymodbus/client/")
EVERY_S: Final = 0.1
"""Between two numbers that the peer says."""
CASES: Final = [
    (name, variant)
    for name in connectors.names()
    for variant in importlib.import_module(f"tests.connectors.peer_{name}").VARIANTS
]
SCENES: Final = [(fault, False) for fault in FAULTS] + [("cut", True), ("stalled", True)]
"""Fault, and whether the peer has kept something of an earlier connection."""
OF_LINE: Final = ("torn", "half_closed", "noise")
OF_BROKER: Final = (*OF_LINE, "spoilt")
SPOKEN_OVER: Final = {"sparkplug": "mqtt"}
"""Connectors whose line and whose nonsense are those of another one, which is tried by itself."""


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Rig:
    """Each connector in turn, in each of its peer's variants."""
    name, variant = request.param
    first = name not in SPOKEN_OVER and variant == importlib.import_module(f"tests.connectors.peer_{name}").VARIANTS[0]
    peer: Peer = importlib.import_module(f"tests.connectors.peer_{name}").peer(request, tmp_path, variant)
    if peer.framing is None:
        pytest.skip("there is no network between us and a recording")
    return Rig(connectors.load(name), peer, peer.framing, tmp_path, first, name in SPOKEN_OVER)


@dataclass
class Heard:
    """What a source has told so far."""

    numbers: list[float] = field(default_factory=list)
    broke: bool = False
    """Some batch said that it does not continue."""
    told: int = 0
    """What the peer is said to have lost."""

    @property
    def last(self) -> float:
        """The newest number; 0 while there is none."""
        return max(self.numbers, default=0.0)


@dataclass
class Rig:
    """A connector, its peer, which says a growing number again and again, and gates between them."""

    connector: Connector
    peer: Peer
    framing: Framing
    folder: Path
    first: bool
    """Whether its line is tried: of the first of a peer's variants, and where it is not another connector's line."""
    spoken_over: bool
    """Whether it is spoken over another connector's protocol."""
    said: list[float] = field(default_factory=list)

    @asynccontextmanager
    async def speaking(self) -> AsyncIterator[None]:
        """Let the peer speak."""
        saying = asyncio.create_task(self._say())
        try:
            yield
        finally:
            saying.cancel()
            with suppress(asyncio.CancelledError):
                await saying

    async def _say(self) -> None:
        while True:
            number = len(self.said) + 1.0
            await self.peer.emit(number, f"n{number:g}")
            self.said.append(number)
            await asyncio.wait({asyncio.get_running_loop().create_future()}, timeout=EVERY_S)

    @asynccontextmanager
    async def connection(self, own: str, seed: int = 0) -> AsyncIterator[tuple[MessageGate, Source]]:
        """A source and a gate of its own, under a name of its own."""
        parts = urlsplit(str(self.peer.options["url"]))
        gate = MessageGate(str(parts.hostname), int(parts.port or 0), self.framing, seed)
        await gate.start()
        options = {
            **self.peer.options,
            "url": parts._replace(netloc=f"127.0.0.1:{gate.port}").geturl(),
            "timeout_s": TIMEOUT_S,
        }
        if "poll_s" in options:
            options["poll_s"] = EVERY_S
        if "client_id" in options:
            options["client_id"] = f"{options['client_id']}-{own}"
        tags = (self.peer.number, self.peer.text)
        source = self.connector.source(ConnectionConfig(own, options, tags, 1, str(self.folder / own)))
        try:
            yield gate, source
        finally:
            await source.close()
            await gate.close()

    async def read(self, source: Source, heard: Heard) -> None:
        """One batch, acknowledged."""
        batch = await source.read()
        # A spoilt byte makes any number of one; only those that may have been said are believed.
        numbers = batch.values[batch.tags == self.peer.number.id].tolist()
        heard.numbers += [number for number in numbers if 0 < number <= len(self.said) + 1]
        heard.broke = heard.broke or not batch.continues
        heard.told += batch.lost
        await batch.ack()

    async def new_number(self, source: Source, heard: Heard) -> None:
        """Until a number is heard that had not been said when this began."""
        before = max(len(self.said), heard.last)
        while heard.last <= before:
            await self.read(source, heard)

    @staticmethod
    async def leave(gate: MessageGate, source: Source) -> None:
        """Close, and wait until its last words are through: else they count as steps of the next connection."""
        await source.close()
        await wait_for(lambda: gate.over, REACHED_S, "the connection ends")

    async def steps(self, *, kept: bool) -> Sequence[Step]:
        """The messages of a good connection; `kept`: of the second one, which takes up the first."""
        async with self.connection("kept" if kept else "good") as (gate, source):
            first = 0
            for _ in range(1 + kept):
                first, heard = len(gate.steps), Heard()
                await source.connect()
                for _ in range(BATCHES):
                    await self.new_number(source, heard)
                steps = gate.steps[first:]
                await self.leave(gate, source)
            return steps


def _hurry(limit: asyncio.Timeout, failing: asyncio.Future[bool]) -> None:
    """The peer has failed: from now on counts how long that takes to be noticed."""
    if not failing.cancelled():
        limit.reschedule(asyncio.get_running_loop().time() + NOTICED_S)


@dataclass
class Trial:
    """One connection whose peer fails, and the next."""

    rig: Rig
    fault: str
    gate: MessageGate
    source: Source
    heard: Heard = field(default_factory=Heard)
    problems: list[str] = field(default_factory=list)
    forgotten: bool = False
    """What the peer kept was not taken up in the end."""

    async def has_been_connected(self) -> None:
        """Let the peer keep something."""
        await self.until_new()
        await self.rig.leave(self.gate, self.source)
        self.heard.broke, self.heard.told = False, 0

    async def until_new(self) -> None:
        """As who runs it would: a peer that is busy with so many is asked again, until there is a new number."""
        async with asyncio.timeout(REACHED_S):
            while True:
                with suppress(NotConnectedError):
                    await self.source.connect()
                    await self.rig.new_number(self.source, self.heard)
                    return

    async def until_it_fails(self) -> ConnectorError | None:
        """Connect and read until that fails; None when nonsense did not break it. TimeoutError when it hangs."""
        async with asyncio.timeout(REACHED_S) as limit:
            failing = asyncio.create_task(self.gate.failed.wait())
            failing.add_done_callback(partial(_hurry, limit))
            try:
                await self.source.connect()
                while self.fault not in GARBAGE or not self.gate.failed.is_set():
                    await self.rig.read(self.source, self.heard)
                await self.lives()
            except ConnectorError as error:
                return error
            finally:
                failing.cancel()
        return None

    async def lives(self) -> None:
        """Read a while longer."""
        with suppress(TimeoutError):
            async with asyncio.timeout(ALIVE_S):
                while True:
                    await self.rig.read(self.source, self.heard)

    async def goes_wrong(self) -> None:
        """The connection whose peer fails."""
        (outcome,) = await asyncio.gather(self.until_it_fails(), return_exceptions=True)
        wanted = (ConnectorError, type(None)) if self.fault in GARBAGE else NotConnectedError
        if isinstance(outcome, TimeoutError):
            self.problems.append("hangs" if self.gate.failed.is_set() else "never came to this step")
        elif not isinstance(outcome, wanted):
            self.problems.append(f"does not say wait, but {outcome!r}")
        begin = time.monotonic()
        await self.source.close()
        if time.monotonic() - begin > CLOSED_S:
            self.problems.append(f"took {time.monotonic() - begin:.1f} s to close")
        with suppress(TimeoutError):
            await wait_for(lambda: self.gate.held == 0, TIMEOUT_S)
        if self.gate.held:
            self.problems.append(f"holds {self.gate.held} connections after it was closed")

    async def comes_back(self, *, kept: bool) -> None:
        """The connection after it, over a way that is whole."""
        since = self.heard.last
        await self.gate.mend()
        try:
            await self.until_new()
        except (ConnectorError, TimeoutError) as error:
            self.problems.append(f"does not come back: {error!r}")
            return
        got, heard = set(self.heard.numbers), self.heard
        since = since or min(heard.numbers)
        lost = [number for number in self.rig.said if since < number < heard.last and number not in got]
        # Of a notification that its server has thrown away nobody knows how many readings were in it.
        if lost and not heard.told and not heard.broke and self.fault not in GARBAGE:
            self.problems.append(f"has lost {lost} and does not say so")
        if heard.told and not heard.broke:
            self.problems.append("has lost a notification that lies in no gap")
        self.forgotten = kept and heard.broke and not heard.told


async def trial(rig: Rig, fault: str, at: int, seed: int, *, kept: bool) -> Trial:
    """A connection whose peer fails at one step, and the next."""
    async with rig.connection(f"{fault}-{at}-{seed}-{kept}", seed) as (gate, source):
        one = Trial(rig, fault, gate, source)
        if kept:
            await one.has_been_connected()
        gate.fail(fault, at)
        await one.goes_wrong()
        await one.comes_back(kept=kept)
        return one


def resources() -> tuple[set[str], int]:
    """Tasks of connectors and their libraries, threads that are no pool's; how many files are open."""
    code = [getattr(task.get_coro(), "cr_code", None) for task in asyncio.all_tasks() if not task.done()]
    places = {f"{one.co_filename} {one.co_qualname}" for one in code if one is not None}
    ours = {place for place in places if CLIENT.search(place)}
    threads = {thread.name for thread in threading.enumerate() if not thread.name.startswith("asyncio_")}
    return ours | threads, len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are all that is wanted


async def all_trials(rig: Rig, fault: str, steps: Sequence[Step], *, kept: bool) -> list[str]:
    """The peer fails at each step, many trials beside each other; a line for whatever was wrong."""
    room = asyncio.Semaphore(FEW if rig.spoken_over and fault == "cut" else BESIDE)

    async def one(at: int, seed: int) -> tuple[str, Trial]:
        async with room:
            return f"{fault} at {at} ({steps[at]})", await trial(rig, fault, at, seed, kept=kept)

    seeds = range(SEEDS if fault == "spoilt" else 1)
    of_peer = [at for at, step in enumerate(steps) if fault not in GARBAGE or not step.ours]
    found = await asyncio.gather(*(one(at, seed) for at in of_peer for seed in seeds))
    problems = [f"{where}: {problem}" for where, made in found for problem in made.problems]
    forgotten = [where for where, made in found if made.forgotten]
    if len(forgotten) > rig.peer.forgotten:
        problems.append(f"what the peer has kept was not taken up after {', '.join(forgotten)}")
    return problems


@contextmanager
def complaints() -> Iterator[list[str]]:
    """What nobody caught and the event loop is told of, and what anyone logs as an error."""
    found: list[str] = []
    loop, before = asyncio.get_running_loop(), asyncio.get_running_loop().get_exception_handler()

    class Note(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if not record.name.startswith("asyncua.server"):
                found.append(f"{record.name}: {record.getMessage()}")

    handler = Note(logging.ERROR)
    logging.getLogger().addHandler(handler)
    loop.set_exception_handler(lambda _, context: found.append(f"{context['message']}: {context.get('exception')!r}"))
    try:
        yield found
        gc.collect()
    finally:
        loop.set_exception_handler(before)
        logging.getLogger().removeHandler(handler)


@pytest.mark.parametrize(("fault", "kept"), SCENES, ids=lambda one: {True: "kept", False: "new"}.get(one, one))
async def test_whatever_a_peer_does_at_any_step_we_wait_and_come_back(rig: Rig, fault: str, kept: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """The error says wait, comes in time, and leaves nothing behind; then it works, and no loss goes unsaid."""
    if kept and not rig.peer.resends:
        pytest.skip("the peer keeps nothing for us")
    if fault in (OF_BROKER if rig.spoken_over else OF_LINE) and not rig.first:
        pytest.skip("the line is the same, whatever is spoken over it")
    async with rig.speaking():
        steps = await rig.steps(kept=kept)
    assert len(steps) > 2 * BATCHES
    names, files = resources()
    with complaints() as said:
        async with rig.speaking():
            problems = await all_trials(rig, fault, steps, kept=kept)
    if rig.peer.forget is not None:
        await rig.peer.forget()
    assert problems == [], "\n".join(problems)
    assert said == [], "\n".join(said)

    def left() -> bool:
        now_names, now_files = resources()
        return now_names <= names and now_files <= files

    await wait_for(left, 10, f"no more than {names} and {files} open files")
