"""The field while outages are tried: OPC UA servers, a device and an edge node, each with a log of its own."""

from __future__ import annotations

import asyncio
import json
import signal
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from app.launcher import servers
from app.launcher.ports import Port
from bench.peers import Peer, peer
from connectors import ConnectionConfig, NotConnectedError, Publication
from connectors.mqtt.sink import MqttSink
from examples.ownlog import OwnLog, stamp
from tests.connectors.sparkplug_edge import DOUBLE, Edge

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from app.launcher.servers import Broker

DEVICE_S: Final = 0.05
CELL_S: Final = 0.1
AGAIN_S: Final = 0.2
READY_S: Final = 30.0
TOPIC: Final = "outages/device"
CELL_TAG: Final = "edge#level"
UNSURE: Final = "unsure"
"""The folder of what a device has sent and nobody confirmed: it may be stored, or not."""


class Server:
    """An OPC UA server as a process that can be stopped, killed and started again on its port."""

    def __init__(self, make: str, log: Path) -> None:
        """`make`: `o6` or `asyncua`. Nothing runs yet."""
        self.make, self.log = make, log
        self._port = Port()
        self._held = AsyncExitStack()
        self._peer: Peer | None = None

    @property
    def port(self) -> int:
        """Where it listens whenever it runs."""
        return self._port.number

    async def start(self, *options: object) -> None:
        """Run it; `options` as `bench.outage_plant` has them."""
        given = ("--make", self.make, "--port", self.port, "--log", self.log, *options)
        self._peer = await self._held.enter_async_context(peer("bench.outage_plant", *given))

    async def tell(self, *words: object) -> int:
        """A command; returns the number of its newest scan."""
        assert self._peer is not None
        self._peer.tell(" ".join(map(str, words)))
        return int(await self._peer.line())

    async def renew(self) -> None:
        """Stop it and start it again where it was: the library of `o6` ends a process after ten minutes."""
        newest = await self.tell("count")
        await self.stop()
        await self.start("--first", newest)

    async def stop(self) -> None:
        """End it as a person would."""
        await self._held.aclose()
        self._peer = None

    async def kill(self) -> None:
        """End it as a power cut would."""
        if self._peer is not None:
            with suppress(ProcessLookupError):  # it has ended by itself
                self._peer.process.send_signal(signal.SIGKILL)
            await self._peer.process.wait()
        await self.stop()

    async def end(self) -> None:
        """End it and let go of its port."""
        await self.kill()
        self._port.close()


class FieldBroker:
    """The MQTT broker of the field, which can be stopped, killed and started again."""

    def __init__(self, folder: Path) -> None:
        """Found and configured; nothing runs yet. LaunchError."""
        made = servers.broker_server(folder)
        self._process, self._port, self.address = made.process, made.port, made.address
        self._child: asyncio.subprocess.Process | None = None

    @property
    def persistent(self) -> bool:
        """Whether sessions outlive a restart: those of Mosquitto do, those of the wheel's broker do not."""
        return any("mosquitto" in word for word in self._process.command)

    async def start(self) -> None:
        """Run it; returns when it lets clients in."""
        self._child = await asyncio.create_subprocess_exec(
            *self._process.command, cwd=self._process.directory, stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        async with asyncio.timeout(READY_S):
            while not await self._answers():  # noqa: ASYNC110 - another process tells no event
                await asyncio.sleep(AGAIN_S)

    async def _answers(self) -> bool:
        assert self._process.ready is not None
        try:
            return await self._process.ready()
        except OSError:
            return False

    async def stop(self) -> None:
        """As a person would: Mosquitto writes down its sessions."""
        if self._child is not None and self._child.returncode is None:
            self._child.terminate()
            await self._child.wait()

    async def lose_everything(self) -> None:
        """A broker without persistence, or one whose disk has gone."""
        if self._child is not None and self._child.returncode is None:
            self._child.kill()
            await self._child.wait()
        for kept in (self._process.directory or Path()).glob("*.db"):
            kept.unlink()

    async def __aenter__(self) -> Self:
        """Run it."""
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """End it."""
        await self.stop()
        self._port.close()


class Device:
    """Publishes a number at QoS 1 twenty times a second, and notes those that the broker has taken."""

    def __init__(self, broker: Broker, log: Path) -> None:
        """Nothing is opened yet."""
        access = {"url": f"mqtt://{broker.host}:{broker.port}", "username": broker.user, "password": broker.password}
        self._sink = MqttSink(ConnectionConfig("device", {**access, "timeout_s": 1}, (), 1, ""))
        self._log, self._unsure = OwnLog(log), OwnLog(log / UNSURE)
        self.on = True
        self.taken = 0
        self.number = 0

    async def run(self) -> None:
        """For ever: a broker that is not there is asked again."""
        try:
            while True:
                with suppress(NotConnectedError):
                    await self._sink.connect()
                    while True:
                        if self.on:
                            await self._once()
                        await asyncio.sleep(DEVICE_S)
                await asyncio.sleep(AGAIN_S)
        finally:
            await self._sink.close()
            self._log.close()
            self._unsure.close()

    async def _once(self) -> None:
        self.number += 1
        moment, sure = stamp(), False
        body = json.dumps({"t": moment // 1_000_000, "level": self.number}).encode()
        try:
            await self._sink.publish([Publication(str(self.number), TOPIC, TOPIC, body, "application/json")])
            sure = True
        finally:
            log = self._log if sure else self._unsure
            log.write("level", moment, float(self.number), 0)
            log.flush()
        self.taken += 1


class Cell:
    """A Sparkplug edge node whose one metric changes ten times a second, at QoS 0 as the standard wants it."""

    def __init__(self, broker: Broker, log: Path, group: str = "outages") -> None:
        """Nothing is opened yet."""
        self.edge = Edge(broker, group, metrics={"level": (DOUBLE, 0.0)})
        self._log = OwnLog(log)
        self.on = True
        self.sent = 0

    async def run(self) -> None:
        """For ever: born, changing; born again when its broker was gone, or when it was told to be on again."""
        try:
            while True:
                await asyncio.to_thread(self._once)
                await asyncio.sleep(CELL_S)
        finally:
            await asyncio.to_thread(self.edge.die)
            self._log.close()

    def _once(self) -> None:
        edge = self.edge
        if not self.on:
            edge.die()
            return
        if not edge.alive:
            edge.die()
            with suppress(OSError, AssertionError):
                edge.connect()
            return
        self.sent += 1
        # Births that are asked for meanwhile would move the clock on, and the reading be another than the one noted.
        with edge.still():
            moment = stamp()
            edge.clock = moment // 1_000_000
            self._log.write(CELL_TAG, moment, float(self.sent), 0)
            self._log.flush()
            edge.change("level", float(self.sent))


@asynccontextmanager
async def running(*sources: Device | Cell) -> AsyncIterator[None]:
    """Let them publish as long as this context."""
    tasks = [asyncio.create_task(one.run()) for one in sources]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
