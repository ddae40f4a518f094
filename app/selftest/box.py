"""A box of the test's own in a temporary folder, with gates on its lines and a plant beside it; never a customer's."""

from __future__ import annotations

import asyncio
import secrets
import subprocess
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

import yaml
from pydantic import SecretStr

from app import settings
from app.commands.box import prepared
from app.field.blocking import blocking
from app.launcher.files import write_private
from app.launcher.ports import Port
from app.launcher.postgres import postgres_server
from app.launcher.probes import listens
from app.launcher.process import Process
from app.launcher.servers import HERE
from app.launcher.stack import Stack, module, module_path, prepare
from app.launcher.supervisor import Supervisor
from app.selftest.caller import Caller
from app.selftest.gate import Gate
from app.selftest.power import Power
from app.selftest.preload import NoCompilerError, Preload
from app.selftest.schedule import API, BEAT, GATEWAY, PRELOAD, SQLITE, WORKER
from app.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
    from pathlib import Path

    from sqlalchemy import Engine

    from app.launcher.servers import Broker
    from app.launcher.supervisor import Status

T = TypeVar("T")
FOLLOW_S: Final = 5.0
"""How often what was written is taken in."""
TAGS: Final = 5
HZ: Final = 10.0
BOX: Final = (GATEWAY, WORKER, BEAT, API)
"""Processes that write into the data folder."""
PROCESS, DEVICE = "process", "device"
"""Connections: the plant's OPC UA server, and the device at the broker."""
URI: Final = "urn:headrace:acceptance"
TIMEOUT_S: Final = 2
QUEUE: Final = 1000
"""Values the OPC UA server keeps of each tag while nobody asks: a minute and a half of them."""
MODEL_WITHIN_S: Final = 60


@dataclass(frozen=True, slots=True)
class Ways:
    """The gates on the lines of a box."""

    server: Gate
    """Gateway to the OPC UA server."""
    broker: Gate
    """Gateway to the broker, in both directions of the data."""
    device: Gate
    """Device to the broker."""
    database: Gate | None
    """Everybody to PostgreSQL."""


@dataclass(slots=True)
class Rig:
    """A box that runs, with all that a fault can take hold of."""

    folder: Path
    database: str
    settings: Settings
    engine: Engine
    """Straight to the database, by no gate."""
    stack: Stack
    ways: Ways
    there: frozenset[str]
    """What `Kind.needs` may ask for."""
    left_out: str
    """Why the faults that need a compiler are left out; empty when they are not."""
    preload: Preload | None
    power: Power | None
    caller: Caller
    supervisors: list[Supervisor] = field(default_factory=list)
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def logs(self) -> Path:
        """The plant's own logs."""
        return self.folder / "plant-log"

    async def ask(self, query: Callable[[Engine], T]) -> T:
        """What this says of the database."""
        async with self.quiet():
            return await asyncio.to_thread(query, self.engine)

    @asynccontextmanager
    async def quiet(self) -> AsyncIterator[None]:
        """Nobody of ours reads the database meanwhile."""
        async with self._asking:
            yield

    def status(self, name: str) -> Status:
        """How one process is, whoever keeps it. KeyError where there is none of this name."""
        found = {one.name: one for supervisor in self.supervisors for one in supervisor.status()}
        return found[name]


def _temporary(folder: Path) -> Path:
    made = folder / "tmp"
    made.mkdir(parents=True)
    return made


def chosen(folder: Path, database_url: str) -> Settings:
    """The settings of a box in this folder."""
    return Settings(
        data_dir=folder / "data",
        database_url=SecretStr(database_url),
        admin_password=SecretStr(secrets.token_hex(12)),
        api_port=0,
        resend_after_s=2.0,
        reconnect_cap_s=2.0,
    )


def _password(mine: Settings) -> str:
    return "" if mine.admin_password is None else mine.admin_password.get_secret_value()


@asynccontextmanager
async def rig(folder: Path, database: str, seed: int | None) -> AsyncIterator[Rig]:
    """A whole box from an empty folder, without its plant. Raises LaunchError with what to do.

    `seed`: of what is on its disk after a power cut; None where there is to be none.
    """
    async with AsyncExitStack() as held:
        # What the environment says of a customer's box, its database above all, must reach neither us nor a child.
        # Libraries leave files where temporary ones belong; ours go with the folder.
        held.enter_context(settings.alone(TMPDIR=str(_temporary(folder))))
        direct, seen, supervisors, gate = await _database(held, folder, database)
        mine = chosen(folder, seen)
        settings.use(mine)
        stack = prepare(mine)
        server = held.enter_context(Port())
        ways = await _ways(held, stack, server.number, gate)
        preload, power, left_out = _preload(folder, mine.data_dir, seed)
        if power:
            stack = _with(stack, BOX, power.environment)
            held.callback(power.close)
        if preload:
            stack = _with(stack, (GATEWAY,), preload.environment)
        file = plant_file(folder, stack, ways)
        straight = mine.model_copy(update={"database_url": SecretStr(direct)})
        engine, _ = await asyncio.to_thread(prepared, straight, file)
        held.callback(engine.dispose)
        there = frozenset((database, *([PRELOAD] if preload else [])))
        if power:
            engine.dispose()
            await asyncio.to_thread(power.begin)
            await held.enter_async_context(_followed(power))
        caller = Caller(int(stack.api_url.rpartition(":")[2]), _password(mine))
        made = Rig(folder, database, mine, engine, stack, ways, there, left_out, preload, power, caller, supervisors)
        beside = (listener(folder, stack),)
        supervisors.append(await held.enter_async_context(stack.running(beside)))
        yield made


async def _database(
    held: AsyncExitStack, folder: Path, database: str
) -> tuple[str, str, list[Supervisor], Gate | None]:
    """Its address for us, its address for the box, who keeps it running, and the gate between."""
    if database == SQLITE:
        url = f"sqlite:///{folder / 'data' / 'headrace.db'}"
        return url, url, [], None
    # Its user passes through the folder.
    await asyncio.to_thread(folder.chmod, 0o755)
    server = await postgres_server(folder / "servers", HERE)
    held.enter_context(server.port)
    supervisor = Supervisor((server.process,), folder / "servers" / "log")
    await held.enter_async_context(supervisor)
    gate = await _gate(held, server.port.number)
    return server.address, server.address.replace(f":{server.port.number}/", f":{gate.port}/"), [supervisor], gate


async def _gate(held: AsyncExitStack, port: int) -> Gate:
    made = Gate("127.0.0.1", port)
    await made.start()
    held.push_async_callback(made.cut)
    return made


async def _ways(held: AsyncExitStack, stack: Stack, server: int, database: Gate | None) -> Ways:
    broker = broker_of(stack)
    return Ways(
        await _gate(held, server), await _gate(held, broker.port), await _gate(held, broker.port), database
    )  # fmt: skip


def broker_of(stack: Stack) -> Broker:
    """The broker that a box of ours runs for itself."""
    if stack.broker is None:
        message = "a box of the test's own has a broker"
        raise RuntimeError(message)
    return stack.broker


def _preload(folder: Path, data: Path, seed: int | None) -> tuple[Preload | None, Power | None, str]:
    try:
        return Preload(folder), None if seed is None else Power(folder, data, seed), ""
    except NoCompilerError as error:
        return None, None, str(error)


@asynccontextmanager
async def _followed(power: Power) -> AsyncIterator[None]:
    """What is written is followed all the while."""

    async def follow() -> None:
        while True:
            await asyncio.sleep(FOLLOW_S)
            await blocking(power.follow)

    task = asyncio.create_task(follow())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def _with(stack: Stack, names: Collection[str], environment: Mapping[str, str]) -> Stack:
    """The stack, some of whose processes have these variables too."""
    processes = tuple(
        replace(one, environment={**one.environment, **environment}) if one.name in names else one
        for one in stack.processes
    )
    return replace(stack, processes=processes)


def plant_file(folder: Path, stack: Stack, ways: Ways, hz: float = HZ) -> Path:
    """Write the plant file, with the model and the password that it names; returns where it is."""
    model = folder / "mean.onnx"
    command = module("examples.acceptance.model", (str(model), "--columns", str(TAGS)))
    environment = {**settings.inherited(), **module_path()}
    subprocess.run(command, check=True, timeout=MODEL_WITHIN_S, env=environment)  # noqa: S603 - our own module
    write_private(_secret(folder), broker_of(stack).password or "")
    path = folder / "plant.yaml"
    path.write_text(yaml.safe_dump(document(folder, stack, ways, hz), sort_keys=False), encoding="utf-8")
    return path


def _secret(folder: Path) -> Path:
    return folder / "broker-password"


def document(folder: Path, stack: Stack, ways: Ways, hz: float = HZ) -> dict[str, Any]:
    """The plant file: two connections, a pipeline over the first, and its answers at the broker.

    `hz`: how often each tag changes, a second.
    """
    login: dict[str, object] = {"url": f"mqtt://127.0.0.1:{ways.broker.port}", "timeout_s": TIMEOUT_S}
    login |= {"username": broker_of(stack).user, "password": {"file": str(_secret(folder))}}
    opcua = {
        "url": f"opc.tcp://127.0.0.1:{ways.server.port}",
        "security": "None",
        "publishing_interval_ms": 50,
        "timeout_s": TIMEOUT_S,
        "queue_size": QUEUE,
    }
    names = range(TAGS)
    return {
        "version": 1,
        "plant": {"enterprise": "acceptance", "site": "selftest"},
        "connections": [
            {"name": PROCESS, "connector": "opcua", "options": opcua},
            {"name": DEVICE, "connector": "mqtt", "options": login},
        ],
        "tags": [
            *({"name": f"s{i}", "connection": PROCESS, "address": f"nsu={URI};s=s{i}"} for i in names),
            *(
                {
                    "name": f"d{i}",
                    "connection": DEVICE,
                    "address": f"acceptance/d{i}#/v",
                    "options": {"time": "/t", "time_format": "ms"},
                }
                for i in names
            ),
        ],
        "models": [{"name": "mean", "path": "mean.onnx"}],
        "pipelines": [
            {
                "name": "mean",
                "model": "mean",
                "asset": "plant",
                "window": {"step_s": 1 / hz, "length": 10, "hop": 2, "lateness_s": 0.2},
                "inputs": {"tags": [f"s{i}" for i in names]},
            }
        ],
        "northbound": [{"name": "broker", "connector": "mqtt", "topic": "headrace", "options": login}],
    }


def listener(folder: Path, stack: Stack) -> Process:
    """A consumer of the answers, which notes what it has heard."""
    return _beside("listener", "examples.acceptance.listener", _login(folder, stack, broker_of(stack).port), folder)


def _login(folder: Path, stack: Stack, port: int) -> tuple[str, ...]:
    user = broker_of(stack).user or ""
    secret = str(_secret(folder))
    return ("--mqtt-port", str(port), "--mqtt-user", user, "--mqtt-password-file", secret)


def _beside(name: str, command: str, arguments: Iterable[str], folder: Path, port: int | None = None) -> Process:
    log = ("--log", str(folder / "plant-log" / name))
    ready = None if port is None else listens(port)
    return Process(name, module(command, (*arguments, *log)), ready=ready, environment=module_path())


@asynccontextmanager
async def plant(there: Rig, hz: float = HZ) -> AsyncIterator[None]:
    """The plant runs as long as this context; it ends cleanly, so that its logs are whole."""
    port = there.ways.server.target[1]
    load = ("--tags", str(TAGS), "--hz", str(hz))
    server = _beside("server", "examples.acceptance.server", ("--port", str(port), *load), there.folder, port)
    login = _login(there.folder, there.stack, there.ways.device.port)
    device = _beside("device", "examples.acceptance.device", (*login, *load), there.folder)
    supervisor = Supervisor((server, device), there.stack.log_dir)
    async with supervisor:
        there.supervisors.append(supervisor)
        try:
            yield
        finally:
            there.supervisors.remove(supervisor)
