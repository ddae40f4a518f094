"""A whole box for a journey: the launcher's stack on free ports, the example plants beside it, and ways to look."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx2
from pydantic import SecretStr

from app import settings
from app.commands.box import prepared, started
from app.commands.up import broker_variables
from app.launcher.ports import Port
from app.launcher.probes import listens
from app.launcher.process import Process
from app.launcher.stack import SOURCE, module, module_path, prepare
from app.launcher.supervisor import Supervisor
from app.selftest.gate import Gate
from app.settings import Settings
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from sqlalchemy import Engine

    from app.launcher.servers import Broker
    from app.launcher.supervisor import Status

EXAMPLE: Final = "HEADRACE_EXAMPLE_"
ADMIN: Final = "correct horse battery"
YARD: Final = """\
  - {name: yard, connector: mqtt, options: *broker}

tags:
  - name: yard_level
    connection: yard
    unit: m
    address: "yard/tank#/level"
    options: &tank {time: /t, time_format: ms, quality: /quality}
  - {name: yard_flow, connection: yard, unit: m3/h, address: "yard/tank#/flow", options: *tank}
  - {name: yard_note, connection: yard, datatype: string, address: "yard/note", options: {format: text}}
"""
"""A connection of the journeys' own, on which no pipeline depends: for what would disturb the plants."""


@dataclass(slots=True)
class Plants:
    """The example plants, running."""

    supervisor: Supervisor
    log: Path
    """Holds `tep` and `station`, each plant's own log."""


class Box:
    """A running box. Everything is asked as its users would ask it, but for the history in its database."""

    def __init__(
        self,
        chosen: Settings,
        engine: Engine,
        supervisor: Supervisor,
        broker: Broker,
        api: httpx2.AsyncClient,
        addresses: Mapping[str, str],
        gates: Mapping[str, Gate],
    ) -> None:
        """Everything answers. `gates`: on the way from the field to the gateway, by kind of connector."""
        self.data = chosen.data_dir
        self.engine = engine
        self.supervisor = supervisor
        self.broker = broker
        self.api = api
        self.variables = addresses
        self.gates = gates
        self.plant = self.data / "journey.yaml"

    @property
    def plant_url(self) -> str:
        """The OPC UA server of the Tennessee Eastman plant."""
        return self.variables[f"{EXAMPLE}OPCUA"]

    @property
    def north_url(self) -> str:
        """The gateway's own OPC UA server."""
        return self.variables[f"{EXAMPLE}NORTH"]

    def status(self, name: str) -> Status:
        """How one process of the box is."""
        return next(one for one in self.supervisor.status() if one.name == name)

    async def get(self, path: str, **query: str | int) -> Any:  # noqa: ANN401 - any JSON value
        """What the REST API answers to the administrator."""
        answer = await self.api.get(f"/api/v1{path}", params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def items(self, path: str, **query: str | int) -> list[dict[str, Any]]:
        """The items of the first page of a list, at most 500."""
        found: list[dict[str, Any]] = (await self.get(path, limit=500, **query))["items"]
        return found

    async def account(self, connection: str) -> dict[str, Any]:
        """One connection of the ledger."""
        accounts = (await self.get("/ledger"))["connections"]
        return next((one for one in accounts if one["name"] == connection), {})

    def logged(self, event: str) -> list[str]:
        """The lines of the gateway's log that tell of this event."""
        text = (self.data / "log" / "gateway.log").read_text(encoding="utf-8")
        return [line for line in text.splitlines() if event in line.split()]

    async def kill(self, name: str) -> None:
        """SIGKILL for the whole process group; returns once the supervisor has it ready again."""
        before = self.status(name)
        assert before.pid is not None
        assert before.state == "ready"
        os.killpg(before.pid, signal.SIGKILL)
        await wait_for(
            lambda: self.status(name).state == "ready" and self.status(name).restarts > before.restarts,
            60,
            f"{name} is back",
        )
        assert self.status(name).pid != before.pid


def plant_file(folder: Path) -> Path:
    """The example's plant file with one more connection, its models named by where they lie."""
    text = (SOURCE / "examples" / "plant.yaml").read_text(encoding="utf-8")
    for package in ("tep", "tightening"):
        text = text.replace(f"path: {package}/package", f"path: {SOURCE / 'examples' / package / 'package'}")
    assert text.count("\ntags:\n") == 1
    file = folder / "journey.yaml"
    file.write_text(text.replace("\ntags:\n", YARD), encoding="utf-8")
    return file


@asynccontextmanager
async def _gate(host: str, port: int) -> AsyncIterator[Gate]:
    made = Gate(host, port)
    await made.start()
    yield made
    await made.cut()


@asynccontextmanager
async def running(
    folder: Path, *, gated: bool = False, plant: Callable[[Path], Path] = plant_file
) -> AsyncIterator[Box]:
    """A box from an empty folder, with its plant file applied and an administrator logged in; no plant runs yet.

    `gated`: the gateway reaches plant and broker through gates that can be shut. `plant`: writes the plant file into
    a folder.
    """
    async with AsyncExitStack() as held:
        chosen = Settings(data_dir=folder, api_port=0, admin_password=SecretStr(ADMIN), reconnect_cap_s=2)
        settings.use(chosen)
        stack = prepare(chosen)
        assert stack.broker is not None
        opcua, north = held.enter_context(Port()), held.enter_context(Port())
        addresses = {
            f"{EXAMPLE}OPCUA": f"opc.tcp://127.0.0.1:{opcua.number}/headrace/tep",
            f"{EXAMPLE}NORTH": f"opc.tcp://127.0.0.1:{north.number}/headrace",
            **broker_variables(stack, f"{EXAMPLE}MQTT_"),
        }
        addresses[f"{EXAMPLE}MQTT"] = addresses[f"{EXAMPLE}MQTT_URL"]
        gates: dict[str, Gate] = {}
        if gated:
            gates = {
                "opcua": await held.enter_async_context(_gate("127.0.0.1", opcua.number)),
                "mqtt": await held.enter_async_context(_gate(stack.broker.host, stack.broker.port)),
            }
            settings.provide({
                **addresses,
                f"{EXAMPLE}OPCUA": f"opc.tcp://127.0.0.1:{gates['opcua'].port}/headrace/tep",
                f"{EXAMPLE}MQTT": f"mqtt://127.0.0.1:{gates['mqtt'].port}",
            })
        else:
            settings.provide(addresses)
        engine, _ = await asyncio.to_thread(prepared, chosen, plant(folder))
        held.callback(engine.dispose)
        supervisor = await held.enter_async_context(started(chosen, stack))
        api = await held.enter_async_context(httpx2.AsyncClient(base_url=stack.api_url, timeout=20))
        answer = await api.post("/api/v1/session", json={"name": "admin", "password": ADMIN})
        assert answer.status_code == 201, answer.text
        api.headers["Authorization"] = f"Bearer {answer.json()['token']}"
        yield Box(chosen, engine, supervisor, stack.broker, api, addresses, gates)


@asynccontextmanager
async def plants(box: Box, *, interval_s: float = 1.5) -> AsyncIterator[Plants]:
    """Both example plants as processes; they end cleanly, so that their logs are whole."""
    port = int(box.plant_url.split(":")[2].split("/")[0])
    secret, logs, broker = box.data / "plant-password", box.data / "plant-log", box.broker
    secret.write_text(broker.password or "")
    shared = (
        *("--mqtt-host", broker.host, "--mqtt-port", str(broker.port)),
        *("--mqtt-user", broker.user or "", "--mqtt-password-file", str(secret)),
    )
    tep = module("examples.tep.plant", ("--opcua-port", str(port), "--log", str(logs / "tep"), *shared))
    station = ("--interval", str(interval_s), "--log", str(logs / "station"), *shared)
    processes = (
        Process("plant", tep, ready=listens(port), environment=module_path()),
        Process("station", module("examples.tightening.station", station), environment=module_path()),
    )
    async with Supervisor(processes, box.data / "log") as supervisor:
        yield Plants(supervisor, logs)
