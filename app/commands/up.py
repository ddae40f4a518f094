"""`headrace up`: runs the gateway of this box until Ctrl-C or SIGTERM."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from app import settings
from app.commands import running
from app.commands.box import greet, prepared, started, stop_on_signal
from app.commands.console import fail, mistakes, out, t
from app.config.document import DocumentError
from app.launcher.process import LaunchError
from app.launcher.stack import Stack, prepare
from app.settings import Settings

BROKER = "HEADRACE_BROKER_"


def up(
    config: Annotated[Path | None, typer.Option(help="Plant file to apply first.", exists=True, dir_okay=False)] = None,
    data: Annotated[Path | None, typer.Option(help="Data folder; HEADRACE_DATA_DIR by default.")] = None,
) -> None:
    """Run the gateway: its servers where none are configured, then gateway, worker, beat and API.

    A plant file that refers to {env: HEADRACE_BROKER_URL}, …_USER and …_PASSWORD is given a private MQTT broker.
    """
    chosen = settings.settings() if data is None else Settings(data_dir=data)
    if running.read(chosen.data_dir) is not None:
        raise fail(t("{data} is in use: a gateway runs on it", data=chosen.data_dir))
    settings.use(chosen)
    wants_broker = config is not None and BROKER in config.read_text(encoding="utf-8", errors="replace")
    try:
        stack = prepare(chosen, own_broker=wants_broker)
        asyncio.run(_run(chosen, stack, config))
    except LaunchError as error:
        raise fail(str(error)) from error
    except DocumentError as error:
        raise mistakes(error, config) from error


async def _run(chosen: Settings, stack: Stack, config: Path | None) -> None:
    stop = stop_on_signal()
    if stack.broker is not None:
        settings.provide(broker_variables(stack, BROKER))
    engine, password = await asyncio.to_thread(prepared, chosen, config)
    engine.dispose()
    async with started(chosen, stack):
        greet(stack, password)
        out.print(t("Stop with Ctrl-C."))
        await stop.wait()


def broker_variables(stack: Stack, prefix: str) -> dict[str, str]:
    """The private broker's address and user, for plant files to refer to."""
    broker = stack.broker
    if broker is None:
        return {}
    return {
        f"{prefix}URL": f"mqtt://{broker.host}:{broker.port}",
        f"{prefix}USER": broker.user or "",
        f"{prefix}PASSWORD": broker.password or "",
    }
