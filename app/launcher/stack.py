"""The processes of a box, declared: its own servers where none are configured, gateway, worker, beat and API."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from app.durable import make_folder
from app.launcher.ports import Port
from app.launcher.probes import http_answers
from app.launcher.process import LaunchError, Probe, Process
from app.launcher.programs import Places
from app.launcher.servers import HERE, Broker, broker_server, redis_server
from app.launcher.supervisor import Supervisor
from app.settings import PREFIX, Settings, inherited

SOURCE: Final = Path(__file__).parents[2]
"""Where our packages lie: a clone, or the folder they are installed in."""
LOG: Final = "log"
GATEWAY_STOPS_WITHIN_S: Final = 15.0
WORKER_STOPS_WITHIN_S: Final = 30.0
"""A message in work is finished first; Celery's own soft shutdown takes up to 20 s."""
WILDCARDS: Final = frozenset(("", "0.0.0.0", "::"))  # noqa: S104 - compared with, not listened on


@dataclass(frozen=True, slots=True)
class Part:
    """One of our own processes."""

    name: str
    arguments: tuple[str, ...]
    after: tuple[str, ...]
    one_shot: bool = False
    notifies: bool = False
    stop_within_s: float = 8.0


PARTS: Final = (
    Part("database", ("app.db",), (), one_shot=True),
    Part("worker", ("app.worker",), ("database", "redis"), notifies=True, stop_within_s=WORKER_STOPS_WITHIN_S),
    Part(
        "gateway",
        ("app.gateway",),
        ("database", "redis", "broker"),
        notifies=True,
        stop_within_s=GATEWAY_STOPS_WITHIN_S,
    ),
    Part("beat", ("app.worker", "beat"), ("database", "redis"), notifies=True),
    Part("api", ("app.main",), ("database",)),
)
"""In the order of the start as far as nothing else orders them; stopped in reverse."""


@dataclass(frozen=True, slots=True)
class Stack:
    """A box made ready to run: every address is known and nothing runs yet."""

    redis_url: str = field(repr=False)
    broker: Broker | None
    """Where MQTT is: the broker given, our own, or None when neither was wanted."""
    api_url: str
    log_dir: Path
    processes: tuple[Process, ...]
    _held: ExitStack = field(repr=False)

    def close(self) -> None:
        """Let go of the ports of a box that is not run. Safe to call twice."""
        self._held.close()

    @asynccontextmanager
    async def running(
        self, extra: Iterable[Process] = (), on_ready: Callable[[str, float], None] | None = None
    ) -> AsyncIterator[Supervisor]:
        """Run the box, and `extra` beside it, as long as this context; entered when all answer. Raises LaunchError.

        `extra` may wait for `redis`, `broker`, `database`, `gateway`, `worker`, `beat` and `api`.
        """
        with self._held:
            async with Supervisor((*self.processes, *extra), self.log_dir, on_ready) as supervisor:
                yield supervisor


def prepare(
    settings: Settings, *, broker: Broker | None = None, own_broker: bool = True, places: Places = HERE
) -> Stack:
    """Find the programs, choose the ports, write the configurations. Raises LaunchError with what to do.

    Without `broker` the box runs one of its own, unless `own_broker` is false.
    """
    data_dir = settings.data_dir.absolute()
    make_folder(data_dir, 0o700)
    with ExitStack() as held:
        api_port = held.enter_context(_api_port(settings))
        servers: list[Process] = []
        redis_url = settings.redis_url.get_secret_value() if settings.redis_url is not None else None
        if redis_url is None:
            redis = redis_server(data_dir, places)
            held.enter_context(redis.port)
            servers.append(redis.process)
            redis_url = redis.address
        if broker is None and own_broker:
            own = broker_server(data_dir, places)
            held.enter_context(own.port)
            servers.append(own.process)
            broker = own.address
        environment = {
            **environment_of(settings),
            f"{PREFIX}DATA_DIR": str(data_dir),
            f"{PREFIX}REDIS_URL": redis_url,
            f"{PREFIX}API_PORT": str(api_port.number),
        }
        there = {"database", *(s.name for s in servers)}
        host = "127.0.0.1" if settings.api_host in WILDCARDS else settings.api_host
        ready = {"api": http_answers(api_port.number, "/healthz", host)}
        ours = (_process(part, environment, there, ready.get(part.name)) for part in PARTS)
        return Stack(
            redis_url=redis_url,
            broker=broker,
            api_url=f"http://{host}:{api_port.number}",
            log_dir=data_dir / LOG,
            processes=(*servers, *ours),
            _held=held.pop_all(),
        )


def environment_of(settings: Settings) -> dict[str, str]:
    """The variables that give a child the same settings, whether they came from the environment or from arguments."""
    values = {name: getattr(settings, name) for name in settings.model_fields_set if name != "admin_password"}
    return {f"{PREFIX}{name.upper()}": _as_variable(v) for name, v in values.items() if v is not None}


def _as_variable(value: object) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return json.dumps(value) if isinstance(value, dict) else str(value)


def module(name: str, arguments: tuple[str, ...] = (), /) -> tuple[str, ...]:
    """The command that runs one of our modules, whatever lies in the folder it is run in."""
    return (sys.executable, "-P", "-m", name, *arguments)


def module_path() -> dict[str, str]:
    """The variable that lets a child import our packages."""
    others = inherited().get("PYTHONPATH", "")
    return {"PYTHONPATH": f"{SOURCE}:{others}" if others else str(SOURCE)}


def _process(part: Part, environment: Mapping[str, str], there: set[str], ready: Probe | None) -> Process:
    return Process(
        name=part.name,
        command=module(part.arguments[0], part.arguments[1:]),
        ready=ready,
        notifies=part.notifies,
        after=tuple(name for name in part.after if name in there),
        environment={**module_path(), **environment},
        one_shot=part.one_shot,
        stop_within_s=part.stop_within_s,
    )


def _api_port(settings: Settings) -> Port:
    port = Port(settings.api_port)
    if settings.api_port not in (0, port.number):
        port.close()
        message = (
            f"port {settings.api_port} is in use: stop the program that listens on it, or choose another with "
            f"{PREFIX}API_PORT (0 takes any free one)"
        )
        raise LaunchError(message)
    return port
