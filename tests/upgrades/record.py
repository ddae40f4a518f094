"""Records a fixture: the data folder of a box of one release, killed in the middle of its work, and a backup of it.

`python -m tests.upgrades.record NAME [--headrace PROGRAM]` runs that release's own `headrace up` beside a broker,
publishes rounds of readings, lets the worker stand still so that the journal holds records that nobody has applied,
makes a backup, and kills everything at once. What was published is computed from the number of rounds (`Story`).
"""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import signal
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import time
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import yaml

from app.launcher import servers
from app.settings import inherited
from examples.acceptance.model import write
from examples.broker import Broker, Publisher
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

FIXTURES: Final = Path(__file__).parent / "fixtures"
TAGS: Final = ("a", "b", "c")
ROUND_MS: Final = 100
ROWS: Final = 10
"""Rounds of a window."""
BEFORE, AFTER = 120, 60
"""Rounds that are in the database when the worker is made to stand still, and rounds after."""
LEFT_OUT: Final = {"log", "redis", "headrace.db-shm"}
"""Of other use than a box's memory: output, an empty queue, and what SQLite makes anew."""
WITHIN_S: Final = 240.0


@dataclass(frozen=True, slots=True)
class Story:
    """What was published: round k at `start_ms + k * ROUND_MS`, tag number i with the value k + 1000 * i."""

    start_ms: int
    rounds: int

    def readings(self) -> Iterator[tuple[str, int, float]]:
        """Tag, source time (ns) and value of each."""
        for k in range(self.rounds):
            for i, tag in enumerate(TAGS):
                yield tag, (self.start_ms + k * ROUND_MS) * 1_000_000, float(k + 1000 * i)


def plant(url: str, model: Path) -> str:
    """One connection, one pipeline with an alarm, and a consumer."""
    options = {"time": "/t", "time_format": "ms"}
    return yaml.safe_dump({
        "version": 1,
        "plant": {"enterprise": "acme", "site": "upgrades"},
        "connections": [{"name": "device", "connector": "mqtt", "options": {"url": url}}],
        "tags": [
            {"name": tag, "connection": "device", "address": f"up/{tag}#/v", "options": options} for tag in TAGS
        ],
        "models": [{"name": "mean", "path": str(model)}],
        "pipelines": [
            {
                "name": "mean",
                "model": "mean",
                "asset": "press",
                "window": {"step_s": ROUND_MS / 1000, "length": ROWS, "hop": ROWS, "lateness_s": 0.2},
                "inputs": {"tags": list(TAGS), "max_gap_s": 1},
                "rules": [{"name": "high", "output": "score", "above": 1050.0}],
            }
        ],
        "northbound": [{"name": "mes", "connector": "mqtt", "topic": "north", "options": {"url": url}}],
    })  # fmt: skip


class Release:
    """The release that is recorded, by its own command."""

    def __init__(self, program: Path, data: Path) -> None:
        """Nothing runs yet."""
        self.data = data
        self.printed = data.parent / "up.txt"
        self._program = str(program)
        own = {"HEADRACE_DATA_DIR": str(data), "HEADRACE_ADMIN_PASSWORD": "of a fixture", "HEADRACE_API_PORT": "0"}
        self._environment = {**inherited(), **own}
        self._environment.pop("PYTHONPATH", None)

    @asynccontextmanager
    async def up(self, config: Path) -> AsyncIterator[None]:
        """It runs, as long as this context and at most until it is killed with all its children."""
        with self.printed.open("wb") as out:
            process = await asyncio.create_subprocess_exec(
                self._program, "up", "--config", str(config), env=self._environment, cwd=self.data.parent,
                start_new_session=True, stdout=out, stderr=asyncio.subprocess.STDOUT,
            )  # fmt: skip
        try:
            yield
        finally:
            for pid in (process.pid, *family(process.pid)):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            await process.wait()

    def stop_worker(self) -> None:
        """The worker stands still, with all its children."""
        (leader,) = (pid for pid in pids() if self._is_ours(pid) and words(pid)[-2:] == ["-m", "app.worker"])
        for pid in (leader, *family(leader)):
            os.kill(pid, signal.SIGSTOP)

    def _is_ours(self, pid: int) -> bool:
        with suppress(OSError):
            return f"HEADRACE_DATA_DIR={self.data}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        return False

    def read(self) -> int:
        """Readings that are in its journal, as it has written down last."""
        return self._asked("SELECT read FROM journal_states")

    def stored(self) -> int:
        """Readings that are in its database."""
        return self._asked("SELECT readings FROM ledger WHERE fate = 'stored'")

    def _asked(self, query: str) -> int:
        with closing(sqlite3.connect(self.data / "headrace.db")) as database:
            row = database.execute(query).fetchone()
        return 0 if row is None else int(row[0])

    def run(self, *words: str) -> None:
        """One of its commands. CalledProcessError."""
        subprocess.run([self._program, *words], env=self._environment, check=True, timeout=WITHIN_S)


def pids() -> list[int]:
    """Every process of this machine."""
    return [int(one.name) for one in Path("/proc").iterdir() if one.name.isdigit()]


def words(pid: int) -> list[str]:
    """Its command line; empty when it is gone."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0")
    return []


def family(pid: int) -> list[int]:
    """Children and theirs."""
    found: list[int] = []
    for one in pids():
        with suppress(OSError):
            parent = int(Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()[1])
            if parent == pid:
                found += [one, *family(one)]
    return found


async def record(name: str, program: Path) -> None:
    """Make `fixtures/NAME.tar.xz` and `fixtures/NAME.hrb`."""
    with tempfile.TemporaryDirectory(prefix="headrace-fixture-") as top:
        folder = Path(top)
        data = folder / "data"
        data.mkdir()
        release = Release(program, data)
        async with servers.broker(folder / "peer", anonymous=True) as address:
            url = f"mqtt://{address.host}:{address.port}"
            model, config = folder / "mean.onnx", folder / "plant.yaml"
            write(model, len(TAGS))
            config.write_text(plant(url, model), encoding="utf-8")
            async with release.up(config):
                story = await publish(release, Broker(address.host, address.port))
                release.run("backup", str(folder / "box.hrb"))
        pack(name, data, story, folder / "box.hrb")


async def publish(release: Release, broker: Broker) -> Story:
    """All rounds; returns when each is in the journal, and some are in no database."""
    publisher = Publisher(broker, "upgrade-device")
    await until_ready(release)
    start, rounds, stopped_at = time.time_ns() // 1_000_000_000 * 1000 + 1000, 0, None
    while stopped_at is None or rounds < stopped_at + AFTER:
        due = (start + rounds * ROUND_MS) * 1_000_000
        await wait_for(partial(is_past, due), WITHIN_S)
        if stopped_at is None and release.stored() >= len(TAGS) * BEFORE:
            release.stop_worker()
            stopped_at = rounds
        for i, tag in enumerate(TAGS):
            publisher.send(f"up/{tag}", {"t": start + rounds * ROUND_MS, "v": rounds + 1000 * i})
        rounds += 1
    await wait_for(lambda: release.read() == len(TAGS) * rounds, WITHIN_S, "all is in the journal")
    return Story(start, rounds)


def is_past(due: int) -> bool:
    """Whether this time (ns) has come."""
    return time.time_ns() >= due


async def until_ready(release: Release) -> None:
    """Wait until every process of the box is ready, and the gateway has its connection."""
    log = release.data / "log" / "gateway.log"
    await wait_for(lambda: "api is ready" in release.printed.read_text(), WITHIN_S, "the box is up")
    await wait_for(lambda: "connection_up" in log.read_text(), WITHIN_S, "the gateway is connected")


def pack(name: str, data: Path, story: Story, backup: Path) -> None:
    """Write the fixture."""
    FIXTURES.mkdir(exist_ok=True)
    with tarfile.open(FIXTURES / f"{name}.tar.xz", "w:xz") as archive:
        body = msgspec.json.encode(story)
        told = tarfile.TarInfo("story.json")
        told.size = len(body)
        archive.addfile(told, io.BytesIO(body))
        for path in sorted(data.rglob("*")):
            inside = path.relative_to(data)
            if path.is_file() and not set(inside.parts) & LEFT_OUT:
                archive.add(path, str(Path("data") / inside), filter=plain)
    (FIXTURES / f"{name}.hrb").write_bytes(backup.read_bytes())


def plain(told: tarfile.TarInfo) -> tarfile.TarInfo:
    """Whose it was and when says nothing."""
    told.uid = told.gid = 0
    told.uname = told.gname = ""
    told.mtime = 0
    return told


def main() -> None:
    """The command line's entry."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of the release, as the files are to be called")
    parser.add_argument("--headrace", type=Path, default=Path(sys.executable).parent / "headrace", help="its program")
    given = parser.parse_args()
    asyncio.run(record(given.name, given.headrace))


if __name__ == "__main__":
    main()
