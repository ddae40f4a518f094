"""A field made for outages, behind gates: two makes of OPC UA server, a broker, a device and an edge node."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from app.selftest.gate import Gate
from bench.outage_peers import CELL_TAG, TOPIC, UNSURE, Cell, Device, FieldBroker, Server, running
from bench.outage_plant import NODES, URI
from examples.ownlog import read_log

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from pathlib import Path

    from examples.ownlog import Entry

MAKES: Final = ("o6", "asyncua")
"""Of OPC UA servers, and the names of their connections."""
VAULTS: Final = {make: f"vault_{make}" for make in MAKES}
"""Connections to secured servers, which do not run at first."""
CONNECTIONS: Final = (*MAKES, "device", "cell")
"""Those that have something to read from the first moment on."""
TIMEOUT_S: Final = 5
"""A busy host keeps a sound peer waiting for seconds: connections to which nothing is done must stand that."""
HIDDEN: Final = "N1"
"""The node that vanishes and returns: what it is given before it is found again is not read."""
SILENT_S: Final = 5
QUEUE: Final = 1000
"""Of a node, at the server: for outages of minutes. asyncua says nothing when it overflows."""


@dataclass
class Outside:
    """Everything outside a box."""

    broker: FieldBroker
    servers: Mapping[str, Server]
    """By the name of their connection."""
    device: Device
    cell: Cell
    gates: Mapping[str, Gate]
    """By make; that of the broker is `device`."""
    logs: Path

    def log(self, name: str) -> Mapping[str, Sequence[Entry]]:
        """What was published over a connection; of the device what the broker has confirmed."""
        return read_log(self.logs / name)

    def whole(self, name: str) -> Mapping[str, Sequence[Entry]]:
        """The same without the tag that vanishes: all of it has to arrive."""
        return {tag: entries for tag, entries in self.log(name).items() if tag != HIDDEN}

    def perhaps(self, name: str) -> Mapping[str, Sequence[Entry]]:
        """The same with what nobody confirmed."""
        unsure = self.logs / name / UNSURE
        more = read_log(unsure) if unsure.exists() else {}
        return {tag: [*entries, *more.get(tag, ())] for tag, entries in self.log(name).items()}

    def gate(self, name: str) -> Gate | None:
        """On the way to a connection."""
        return self.gates.get("device" if name == "cell" else name)

    def document(self) -> dict[str, Any]:
        """Connections and tags of a plant file."""
        secret = self.logs / "password"
        secret.write_text(self.broker.address.password or "")
        ports = {name: gate.port for name, gate in self.gates.items()}
        login = {"username": self.broker.address.user, "password": {"file": str(secret)}}
        access: dict[str, object] = {**login, "timeout_s": TIMEOUT_S}
        opcua = {"publishing_interval_ms": 50, "timeout_s": TIMEOUT_S, "retry_bad_s": 1, "queue_size": QUEUE}
        opcua["check_silent_s"] = SILENT_S
        cell = {"birth_wait_s": 2, "rebirth_pause_s": 1}
        urls = {name: f"opc.tcp://127.0.0.1:{ports.get(name, server.port)}" for name, server in self.servers.items()}
        broker = f"127.0.0.1:{ports['device']}"
        return {
            "connections": [
                *(_connection(make, "opcua", urls[make], opcua | {"security": "None"}) for make in MAKES),
                *(_connection(name, "opcua", urls[name], opcua) for name in VAULTS.values()),
                _connection("device", "mqtt", f"mqtt://{broker}", access),
                _connection("cell", "sparkplug", f"sparkplug://{broker}", access | cell),
            ],
            "tags": [
                *({"name": f"{name}_{node}", "connection": name, "address": f"nsu={URI};s={node}"}
                  for name in self.servers for node in NODES),
                {"name": "level", "connection": "device", "address": f"{TOPIC}#/level",
                 "options": {"time": "/t", "time_format": "ms"}},
                {"name": "cell_level", "connection": "cell", "address": f"outages/{CELL_TAG}"},
            ],
        }  # fmt: skip


def _connection(name: str, connector: str, url: str, options: Mapping[str, object]) -> dict[str, object]:
    return {"name": name, "connector": connector, "options": {"url": url, **options}}


@asynccontextmanager
async def outside(folder: Path) -> AsyncIterator[Outside]:
    """Everything runs but the secured servers."""
    logs = folder / "peers"
    logs.mkdir(parents=True)
    async with AsyncExitStack() as held:
        broker = await held.enter_async_context(FieldBroker(folder / "field"))
        servers = {name: Server(make, logs / name) for make in MAKES for name in (make, VAULTS[make])}
        for server in servers.values():
            held.push_async_callback(server.end)
        for make in MAKES:
            await servers[make].start()
        ports = {make: servers[make].port for make in MAKES} | {"device": broker.address.port}
        gates = {name: Gate("127.0.0.1", port) for name, port in ports.items()}
        for gate in gates.values():
            await gate.start()
            held.push_async_callback(gate.cut)
        device, cell = Device(broker.address, logs / "device"), Cell(broker.address, logs / "cell")
        await held.enter_async_context(running(device, cell))
        yield Outside(broker, servers, device, cell, gates, logs)
