"""A whole box: its servers and our own processes, started, seen, killed and stopped."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from pydantic import SecretStr

from app.launcher import alive
from app.launcher.ports import Port
from app.launcher.process import LaunchError
from app.launcher.programs import Places
from app.launcher.servers import Broker
from app.launcher.stack import Stack, environment_of, module, module_path, prepare
from app.launcher.supervisor import Status, Supervisor
from app.settings import Settings
from tests.waiting import wait_for

Box = tuple[Stack, Supervisor, Settings]
START = pytest.mark.timeout(300)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def box(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Box]:
    """A box that runs, and the settings of its processes."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("box"), api_port=0)
    stack = prepare(settings)
    port = int(stack.api_url.rpartition(":")[2])
    async with stack.running() as supervisor:
        inside = {"api_port": port, "redis_url": SecretStr(stack.redis_url)}
        yield stack, supervisor, settings.model_copy(update=inside)


def _of(supervisor: Supervisor, name: str) -> Status:
    return next(s for s in supervisor.status() if s.name == name)


@START
@pytest.mark.asyncio(loop_scope="module")
async def test_all_are_ready(box: Box) -> None:
    """Entering the context waits for servers, database, gateway, worker, beat and API."""
    _, supervisor, _ = box
    states = {s.name: s.state for s in supervisor.status()}
    assert states == {
        "redis": "ready",
        "broker": "ready",
        "database": "done",
        "worker": "ready",
        "gateway": "ready",
        "beat": "ready",
        "api": "ready",
    }
    assert all(s.ready_s is not None for s in supervisor.status())


@START
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", sorted(alive.CHECKS))
async def test_a_working_process_is_found_alive(box: Box, name: str) -> None:
    """The health check of each process finds nothing wrong while it works."""
    _, _, settings = box

    said = ["not asked"]

    async def nothing_wrong() -> bool:
        said.append(await alive.CHECKS[name](settings))
        return said[-1] == ""

    await wait_for(nothing_wrong, 30, f"{name} is found alive: {said}")


@START
@pytest.mark.asyncio(loop_scope="module")
async def test_the_command_says_what_is_wrong(box: Box) -> None:
    """The command of the container's health check ends with 0 for a working API, and with 1 and a reason otherwise."""
    _, _, settings = box

    async def run(*arguments: str, **more: str) -> tuple[int | None, str]:
        environment = {**os.environ, **module_path(), **environment_of(settings), **more}
        environment |= {"HEADRACE_API_PORT": str(settings.api_port)} | more
        done = await asyncio.create_subprocess_exec(
            *module("app.launcher.alive", arguments), env=environment, stderr=asyncio.subprocess.PIPE
        )
        said = (await done.communicate())[1].decode().strip()
        return done.returncode, said

    assert await run("api") == (0, "")
    with Port() as free:
        assert await run("api", HEADRACE_API_PORT=str(free.number)) == (1, "no answer: ConnectionRefusedError")
    assert await run("database") == (2, "one of gateway, worker, beat, api is to be checked")


@START
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", ["gateway", "worker", "redis", "broker", "beat", "api"])
async def test_a_killed_process_is_back(box: Box, name: str) -> None:
    """After kill -9 each part serves again, and the others have not been touched."""
    _, supervisor, _ = box
    before = {s.name: s for s in supervisor.status()}
    pid = before[name].pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await wait_for(lambda: _of(supervisor, name).restarts == before[name].restarts + 1)
    await wait_for(lambda: _of(supervisor, name).state == "ready", 60)
    others = {s.name: s.pid for s in supervisor.status() if s.name != name}
    assert others == {n: s.pid for n, s in before.items() if n != name}


async def test_nothing_alive_is_found_where_nothing_runs(tmp_path: Path) -> None:
    """Without a box every health check says so."""
    with Port() as free:
        nowhere = Settings(
            data_dir=tmp_path, api_port=free.number, redis_url=SecretStr(f"redis://127.0.0.1:{free.number}/0")
        )
        for check in (alive.gateway, alive.worker, alive.api):
            with pytest.raises(OSError, match=r"refused|Connect"):
                await check(nowhere)
        assert "schedule" in await alive.beat(nowhere)
        with pytest.raises(ValueError, match="no queue"):
            await alive.gateway(Settings(data_dir=tmp_path))


async def test_a_redis_without_a_gateway_has_no_figures(redis_url: str, tmp_path: Path) -> None:
    """A gateway that has never written is not alive, and neither is a worker that is not connected."""
    settings = Settings(data_dir=tmp_path, redis_url=SecretStr(redis_url), gateway_id="nobody")
    assert "no live figures" in await alive.gateway(settings)
    wrong = Settings(data_dir=tmp_path, redis_url=SecretStr(redis_url.replace("redis://:", "redis://:x")))
    with pytest.raises(ValueError, match="refuses"):
        await alive.gateway(wrong)


def test_what_is_configured_is_not_started(tmp_path: Path) -> None:
    """With a queue and a broker of the plant's, the box runs only our own processes, which are told both."""
    settings = Settings(data_dir=tmp_path, api_port=0, redis_url=SecretStr("redis://plant.example/0"))
    stack = prepare(settings, broker=Broker("plant.example", 8883))
    stack.close()
    assert [p.name for p in stack.processes] == ["database", "worker", "gateway", "beat", "api"]
    assert stack.broker == Broker("plant.example", 8883)
    assert all(p.environment["HEADRACE_REDIS_URL"] == "redis://plant.example/0" for p in stack.processes)
    assert "plant.example/0" not in repr(stack)
    without = prepare(settings, own_broker=False)
    without.close()
    assert without.broker is None


def test_settings_given_as_arguments_reach_the_processes(tmp_path: Path) -> None:
    """What was set, and nothing else, is handed on; the first password of admin is not."""
    settings = Settings(
        data_dir=tmp_path,
        log_level="DEBUG",
        secret_key=SecretStr("k"),
        admin_password=SecretStr("p"),
        database_url=None,
        serve={"judge": ("ascend", "cpu")},
    )
    assert environment_of(settings) == {
        "HEADRACE_DATA_DIR": str(tmp_path),
        "HEADRACE_LOG_LEVEL": "DEBUG",
        "HEADRACE_SECRET_KEY": "k",
        "HEADRACE_SERVE": '{"judge": ["ascend", "cpu"]}',
    }


def test_a_taken_port_is_said(tmp_path: Path) -> None:
    """The message names the port and the setting."""
    with Port() as port:
        pass
    code = f"import socket, signal; s = socket.create_server(('127.0.0.1', {port.number})); print(); signal.pause()"
    with subprocess.Popen([sys.executable, "-uc", code], stdout=subprocess.PIPE) as listener:
        assert listener.stdout is not None
        listener.stdout.readline()
        with pytest.raises(LaunchError, match=rf"port {port.number} is in use.*HEADRACE_API_PORT"):
            prepare(Settings(data_dir=tmp_path, api_port=port.number))
        listener.kill()


@pytest.mark.parametrize("what", ["Redis", "an MQTT broker"])
def test_a_missing_server_is_said_with_what_to_do(what: str, tmp_path: Path) -> None:
    """Without a program and without a wheel the message names both."""
    nothing = Places(path="/nonexistent", system=(), root=Path("/nonexistent"), wheels=False)
    url = SecretStr("redis://plant.example/0") if what == "an MQTT broker" else None
    with pytest.raises(LaunchError, match=rf"there is no {what} .*headrace\[embedded\]"):
        prepare(Settings(data_dir=tmp_path, api_port=0, redis_url=url), places=nothing)
