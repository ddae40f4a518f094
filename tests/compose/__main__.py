"""Builds and runs docker-compose.yml with the example plants, and looks at what comes out: `make test-compose`.

Takes Docker Compose where an engine answers, else podman-compose; `COMPOSE` names another command.
"""

from __future__ import annotations

import functools
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from app.launcher.ports import Port
from tests.waiting import wait_until

T = TypeVar("T")
TOP: Final = Path(__file__).parents[2]
PROJECT: Final = "headrace-check"
BUILD_WITHIN_S: Final = 3600
UP_WITHIN_S: Final = 900
OUT_WITHIN_S: Final = 240
MESSAGES: Final = 5
BUILT: Final = ("migrate", "plant")
"""One service of each image: the others run the same two."""
REST: Final = ("gateway", "worker", "beat", "api", "plant", "station", "apply")
ANSWERS: Final = {
    "postgres": "pg_isready -q -h 127.0.0.1 -U headrace -d headrace",
    "redis": "REDISCLI_AUTH=$(cat /run/secrets/redis_password) redis-cli ping | grep -q PONG",
    "broker": "XDG_CONFIG_HOME=/tmp mosquitto_sub -t '$SYS/broker/uptime' -C 1 -W 3",
}
NO_ENGINE: Final = (
    "There is no container engine: install Docker with its compose plugin, or podman with podman-compose, "
    "or name a command that understands compose files in the variable COMPOSE."
)


@dataclass(frozen=True)
class Compose:
    """The command that understands compose files, for one project."""

    command: tuple[str, ...]
    environment: dict[str, str]

    def run(self, *arguments: str, within_s: float = 120, show: bool = False) -> str:
        """Its standard output. CalledProcessError and TimeoutExpired when it fails."""
        line = [*self.command, "--project-name", PROJECT, "--profile", "demo", *arguments]
        done = subprocess.run(
            line,
            cwd=TOP,
            env=self.environment,
            check=True,
            timeout=within_s,
            stdin=subprocess.DEVNULL,
            stdout=None if show else subprocess.PIPE,
            text=True,
        )
        return done.stdout or ""


def main() -> int:
    """Exit status 0 when predictions came out of the broker and out of the database."""
    command = engine()
    if command is None:
        sys.stderr.write(f"{NO_ENGINE}\n")
        return 2
    with tempfile.TemporaryDirectory(prefix="headrace-secrets-") as secrets, Port() as api, Port() as mqtt:
        subprocess.run([TOP / "deploy" / "make-secrets", secrets], check=True, stdout=subprocess.DEVNULL)
        Path(secrets).chmod(0o755)
        environment = {
            **os.environ,
            "HEADRACE_SECRETS": secrets,
            "HEADRACE_API_BIND": f"127.0.0.1:{api.number}",
            "HEADRACE_MQTT_BIND": f"127.0.0.1:{mqtt.number}",
        }
        return checked(Compose(command, environment), api.number)


def engine() -> tuple[str, ...] | None:
    """What runs compose files here."""
    if given := os.environ.get("COMPOSE"):
        return tuple(shlex.split(given))
    if shutil.which("docker") and _works("docker", "info") and _works("docker", "compose", "version"):
        return ("docker", "compose")
    if shutil.which("podman-compose") and shutil.which("podman"):
        return ("podman-compose",)
    return None


def _works(*command: str) -> bool:
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def checked(compose: Compose, api_port: int) -> int:
    """Build, start, look, stop; whatever happens, nothing is left running."""
    over = threading.Event()
    checks = threading.Thread(target=_check_health, args=(over,), daemon=True)
    try:
        # A run that was killed leaves a database whose password nobody knows any more.
        step("take down an earlier run", lambda: stop(compose))
        step("build", lambda: compose.run("build", *BUILT, within_s=BUILD_WITHIN_S, show=True))
        checks.start()
        start(compose)
        looked(compose, api_port)
    except (subprocess.SubprocessError, TimeoutError, AssertionError) as error:
        sys.stdout.write(f"\nIt failed: {error}\n")
        subprocess.run(
            [*compose.command, "--project-name", PROJECT, "--profile", "demo", "logs", "--tail", "40"],
            cwd=TOP,
            env=compose.environment,
            check=False,
        )
        return 1
    finally:
        over.set()
        stopped = step("stop", lambda: stop(compose))
    return 0 if stopped else 1


def stop(compose: Compose) -> bool:
    """Take all of it down; says so when that fails, so that the first failure stays the one that is seen."""
    try:
        compose.run("down", "--volumes", "--timeout", "20", within_s=300, show=True)
    except subprocess.SubprocessError as error:
        sys.stdout.write(f"It could not be stopped: {error}\n")
        return False
    return True


def start(compose: Compose) -> None:
    """All of it, as the file's own conditions say; step by step where the engine does not know them."""
    up = ("up", "--detach", "--no-build")
    if compose.command[0] == "docker":
        step("start", lambda: compose.run(*up, within_s=UP_WITHIN_S, show=True))
        return
    # podman 4 knows no dependency on health, and starts nothing that depends on a container that has ended.
    step("start the servers", lambda: serve(compose, *up))
    step("migrate", lambda: compose.run("run", "--rm", "--no-deps", "migrate", within_s=UP_WITHIN_S, show=True))
    step("start the rest", lambda: compose.run(*up, "--no-deps", *REST, within_s=UP_WITHIN_S, show=True))


def serve(compose: Compose, *up: str) -> None:
    """Start the servers and wait until they answer."""
    compose.run(*up, *ANSWERS, within_s=UP_WITHIN_S, show=True)
    for service, command in ANSWERS.items():
        wait_until(functools.partial(answers, compose, service, command), 60, f"{service} answers")


def answers(compose: Compose, service: str, command: str) -> bool:
    """Whether this command succeeds inside a service."""
    try:
        compose.run("exec", "-T", service, "sh", "-c", command, within_s=20)
    except subprocess.SubprocessError:
        return False
    return True


def looked(compose: Compose, api_port: int) -> None:
    """Predictions out of the broker, the same in the database, an API that says all parts are ready."""
    payloads = step("predictions out of Mosquitto", lambda: heard(compose))
    for line in payloads:
        sys.stdout.write(f"  {line}\n")
    ids = [str(json.loads(line.split(" ", 1)[1])["id"]) for line in payloads]
    found = step("the same predictions out of PostgreSQL", lambda: wait_until(lambda: stored(compose, ids), 60))
    sys.stdout.write(f"  {found}\n")
    sys.stdout.write(f"  {query(compose, COUNTS)}\n")
    ready = step("readiness from the API", lambda: wait_until(lambda: answer(api_port), 60))
    sys.stdout.write(f"  {ready}\n")


def heard(compose: Compose) -> Sequence[str]:
    """Some messages of predictions, as `topic payload`."""
    listen = f"XDG_CONFIG_HOME=/tmp mosquitto_sub -t 'headrace/#' -v -C {MESSAGES} -W {OUT_WITHIN_S}"
    lines = compose.run("exec", "-T", "broker", "sh", "-c", listen, within_s=OUT_WITHIN_S + 30).splitlines()
    predictions = [line for line in lines if "/prediction/" in line.split(" ", 1)[0]]
    assert predictions, f"no prediction among {lines}"
    return predictions


COUNTS: Final = (
    "select count(*) || ' predictions, ' || (select count(*) from batches) || ' batches, '"
    " || (select count(*) from chunks) || ' chunks' from predictions"
)


def stored(compose: Compose, ids: Sequence[str]) -> str:
    """How many of these predictions the database holds, once it holds them all; else nothing."""
    listed = ", ".join(f"'{one}'" for one in set(ids))
    count = query(compose, f"select count(*) from predictions where id::text in ({listed})")  # noqa: S608 - ids of ours
    return f"{count} of {len(set(ids))}" if int(count) == len(set(ids)) else ""


def query(compose: Compose, text: str) -> str:
    """The first value of the first row."""
    psql = "psql -h 127.0.0.1 -U headrace -d headrace -Atc"
    ask = f"PGPASSWORD=$(cat /run/secrets/postgres_password) {psql} {shlex.quote(text)}"
    return compose.run("exec", "-T", "postgres", "sh", "-c", ask).strip()


def answer(port: int) -> str:
    """What /readyz says, once it is 200; else nothing."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as said:
            return str(said.read().decode())
    except OSError:
        return ""


def step(what: str, act: Callable[[], T]) -> T:
    """Do it, and print its seconds."""
    began = time.monotonic()
    result = act()
    sys.stdout.write(f"{what}: {time.monotonic() - began:.1f} s\n")
    sys.stdout.flush()
    return result


def _check_health(over: threading.Event) -> None:
    """Podman runs health checks from timers of systemd: where there is none, run them from here."""
    if shutil.which("podman") is None or Path("/run/systemd/system").exists():
        return
    while not over.wait(2):
        listed = subprocess.run(
            ["podman", "ps", "--filter", f"label=io.podman.compose.project={PROJECT}", "--format", "{{.Names}}"],
            check=False,
            capture_output=True,
            text=True,
        )
        for name in listed.stdout.split():
            subprocess.run(["podman", "healthcheck", "run", name], check=False, capture_output=True)


if __name__ == "__main__":
    sys.exit(main())
