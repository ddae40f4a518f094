"""`headrace demo`: a whole plant on this machine, with a live line, or for a while with a report."""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import typer
from pydantic import SecretStr

from app import settings
from app.commands.box import greet, prepared, started, stop_on_signal
from app.commands.console import chinese, fail, out, t
from app.commands.figures import Figures, Line, Report, shortcomings
from app.commands.up import broker_variables
from app.launcher.files import write_private
from app.launcher.ports import Port
from app.launcher.probes import listens
from app.launcher.process import LaunchError, Process
from app.launcher.stack import SOURCE, Stack, module, module_path, prepare
from app.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from app.launcher.supervisor import Supervisor

EXAMPLES: Final = SOURCE / "examples"
MARK: Final = ".demo"
PREFIX: Final = "HEADRACE_EXAMPLE_"
SETTLE_S: Final = 5.0
"""How long the last batches may take before the report is written."""


def demo(
    seconds: Annotated[
        float | None, typer.Option("--for", min=5, max=86_400, help="Stop after so many seconds.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write a JSON report here.")] = None,
    data: Annotated[Path, typer.Option(help="Data folder; emptied first if an earlier demo made it.")] = Path(
        ".headrace/demo"
    ),
    *,
    speed: Annotated[float, typer.Option(min=1, max=1000, help="Plant seconds per second.")] = 360,
) -> None:
    """Run the example plants and a gateway on this machine; nothing is left running."""
    if importlib.util.find_spec("tep_studio") is None:
        raise fail(
            t("The example plant needs tep-studio: make demo, or pip install 'headrace[demo]' (needs a C compiler)")
        )
    _empty(data)
    port = Settings().api_port
    with Port(port) as free:
        chosen = Settings(data_dir=data.resolve(), api_port=port if free.number == port else 0)
    settings.use(chosen)
    try:
        stack = prepare(chosen)
        settings.use(chosen.model_copy(update={"redis_url": SecretStr(stack.redis_url)}))
        with ExitStack() as held:
            code = asyncio.run(_run(chosen, stack, held, seconds, report, speed))
    except LaunchError as error:
        raise fail(str(error)) from error
    raise typer.Exit(code)


def _empty(data: Path) -> None:
    """A demo starts from nothing; a folder that is not a demo's is never touched."""
    if data.exists() and any(data.iterdir()):
        if not (data / MARK).exists():
            raise fail(t("{data} is not empty and no demo made it: choose another folder with --data", data=data))
        shutil.rmtree(data)
    data.mkdir(parents=True, exist_ok=True)
    (data / MARK).touch()


def _plants(chosen: Settings, stack: Stack, opcua: int, speed: float) -> tuple[Process, ...]:
    """The example plants as processes of the box."""
    broker = stack.broker
    assert broker is not None  # noqa: S101 - a demo runs its own broker
    secret = chosen.data_dir / "plant-password"
    write_private(secret, broker.password or "")
    shared = (
        "--mqtt-host",
        broker.host,
        "--mqtt-port",
        str(broker.port),
        "--mqtt-user",
        broker.user or "",
        "--mqtt-password-file",
        str(secret),
    )
    logs = chosen.data_dir / "plant-log"
    plant = module(
        "examples.tep.plant", ("--opcua-port", str(opcua), "--speed", str(speed), "--log", str(logs / "tep"), *shared)
    )
    station = module("examples.tightening.station", ("--interval", "3", "--log", str(logs / "station"), *shared))
    environment = module_path()
    return (
        Process("plant", plant, ready=listens(opcua), after=("broker",), environment=environment),
        Process("station", station, after=("broker",), environment=environment),
    )


async def _run(
    chosen: Settings,
    stack: Stack,
    held: ExitStack,
    seconds: float | None,
    report: Path | None,
    speed: float,
) -> int:
    stop = stop_on_signal()
    began = time.monotonic()
    opcua, north = held.enter_context(Port()), held.enter_context(Port())
    addresses = {
        f"{PREFIX}OPCUA": f"opc.tcp://127.0.0.1:{opcua.number}/headrace/tep",
        f"{PREFIX}NORTH": f"opc.tcp://127.0.0.1:{north.number}/headrace",
    }
    settings.provide({**addresses, **broker_variables(stack, f"{PREFIX}MQTT_")})
    settings.provide({f"{PREFIX}MQTT": settings.variable(f"{PREFIX}MQTT_URL") or ""})
    engine, password = await asyncio.to_thread(prepared, chosen, EXAMPLES / "plant.yaml")
    async with started(chosen, stack, _plants(chosen, stack, opcua.number, speed)) as supervisor:
        ready_s = time.monotonic() - began
        greet(stack, password)
        _addresses(stack, addresses)
        figures = Figures(engine, began)
        await _show(stop, figures, seconds, live=seconds is None)
        if seconds is None:
            return 0
        return await _report(engine, figures, supervisor, report, ready_s)


def _addresses(stack: Stack, addresses: dict[str, str]) -> None:
    out.print(t("Plant, OPC UA: {url}", url=addresses[f"{PREFIX}OPCUA"]), markup=False)
    out.print(t("Gateway's OPC UA server: {url}", url=addresses[f"{PREFIX}NORTH"]), markup=False)
    if stack.broker is not None:
        url = f"mqtt://{stack.broker.host}:{stack.broker.port}"
        out.print(
            t(
                "MQTT broker: {url} user {user} password {password}",
                url=url,
                user=stack.broker.user,
                password=stack.broker.password,
            ),
            markup=False,
        )
    out.print(t("Stop with Ctrl-C."))


async def _show(stop: asyncio.Event, figures: Figures, seconds: float | None, *, live: bool) -> None:
    """One line a second on a terminal, one every ten seconds elsewhere, until the end."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds if seconds is not None else None
    turn = 0
    while not stop.is_set() and (end is None or loop.time() < end):
        try:
            await asyncio.wait_for(stop.wait(), 1.0 if end is None else min(1.0, max(0.01, end - loop.time())))
        except TimeoutError:
            turn += 1
        line = await asyncio.to_thread(figures.line)
        if out.is_terminal and live:
            out.print(_text(line), end="\r", markup=False)
        elif turn % 10 == 0:
            out.print(_text(line), markup=False)
    out.print()


def _text(line: Line) -> str:
    ledger = {True: t("balanced"), False: t("NOT balanced"), None: t("waiting")}[line.balanced]
    score = "-" if line.score is None else f"{line.score:.2f}"
    shown = t(
        "readings {rate}/s · predictions {predictions} · last score {score} · events {events} · ledger {ledger}",
        rate=f"{line.rate:.0f}",
        predictions=line.predictions,
        score=score,
        events=line.events,
        ledger=ledger,
    )
    return shown if chinese() else shown.ljust(90)


async def _report(engine: Engine, figures: Figures, supervisor: Supervisor, file: Path | None, ready_s: float) -> int:
    made: Report = await asyncio.to_thread(figures.report, supervisor.status(), ready_s)
    for _ in range(int(SETTLE_S)):
        if all(one["balanced"] for one in made.ledger["connections"]):
            break
        await asyncio.sleep(1)
        made = await asyncio.to_thread(figures.report, supervisor.status(), ready_s)
    if file is not None:
        await asyncio.to_thread(file.write_bytes, msgspec.json.format(msgspec.json.encode(made)))
        out.print(t("The report is in {file}.", file=file), markup=False)
    engine.dispose()
    wrong = shortcomings(made)
    for what in wrong:
        out.print(t("NOT met: {what}", what=what), style="red", markup=False)
    return 1 if wrong else 0
