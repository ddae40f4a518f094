"""The parent of a box's processes: order, readiness, restarts, and nothing left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from app.launcher import usage
from app.launcher.logfile import MAX_BYTES, LogFile
from app.launcher.notice import Notice
from app.launcher.ports import Port
from app.launcher.probes import http_answers, listens
from app.launcher.process import LaunchError, Process
from app.launcher.stack import module, module_path
from app.launcher.supervisor import Status, Supervisor
from tests.waiting import wait_for, wait_until

WAITS = "import signal; signal.sigwait({signal.SIGTERM})"
IGNORES_TERM = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); signal.pause()"
WITH_GRANDCHILD = (
    "import subprocess, sys, signal; "
    "print(subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'],"
    " preexec_fn=lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN)).pid, flush=True); "
    "signal.sigwait({signal.SIGTERM})"
)


def _python(name: str, code: str, **more: object) -> Process:
    return Process(name, (sys.executable, "-c", code), **more)  # type: ignore[arg-type]


def _of(supervisor: Supervisor, name: str) -> Status:
    return next(s for s in supervisor.status() if s.name == name)


def _gone(pid: int) -> bool:
    """Whether a process has ended, reaped or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


async def test_each_starts_after_those_it_needs(tmp_path: Path) -> None:
    """The order of readiness is that of the dependencies, not that of the list."""
    told: list[str] = []
    processes = (
        _python("last", WAITS, after=("middle",)),
        _python("middle", WAITS, after=("first",)),
        _python("first", "pass", one_shot=True),
    )
    async with Supervisor(processes, tmp_path, lambda name, _s: told.append(name)) as supervisor:
        assert told == ["first", "middle", "last"]
        assert [s.state for s in supervisor.status()] == ["done", "ready", "ready"]
        assert all(s.ready_s is not None for s in supervisor.status())
    assert [s.state for s in supervisor.status()] == ["done", "stopped", "stopped"]


@pytest.mark.parametrize(
    "processes",
    [
        (_python("a", WAITS, after=("b",)), _python("b", WAITS, after=("a",))),
        (_python("a", WAITS, after=("nobody",)),),
        (_python("a", WAITS), _python("a", WAITS)),
    ],
    ids=["circle", "nobody", "twice"],
)
def test_an_order_that_cannot_be_is_refused(processes: tuple[Process, ...], tmp_path: Path) -> None:
    """A circle, an unknown name or a name twice is a mistake of the list."""
    with pytest.raises(ValueError, match=r"wait for each other|one name"):
        Supervisor(processes, tmp_path)


async def test_a_killed_process_is_back_within_seconds(tmp_path: Path) -> None:
    """After kill -9 there is a new run, counted, and its neighbours are left alone."""
    async with Supervisor((_python("a", WAITS), _python("b", WAITS)), tmp_path) as supervisor:
        before, other = _of(supervisor, "a").pid, _of(supervisor, "b").pid
        assert before is not None
        os.kill(before, signal.SIGKILL)
        await wait_for(lambda: _of(supervisor, "a").restarts == 1 and _of(supervisor, "a").state == "ready")
        assert _of(supervisor, "a").pid != before
        assert _of(supervisor, "b").pid == other


async def test_one_that_dies_again_and_again_waits_longer_each_time(tmp_path: Path) -> None:
    """The delay doubles: within a second there are a few runs, not hundreds."""
    crashes = _python("a", "import os; os.kill(os.getpid(), 9)")
    async with Supervisor((crashes,), tmp_path) as supervisor:
        began = time.monotonic()
        await wait_for(lambda: _of(supervisor, "a").restarts >= 4)
        assert time.monotonic() - began > 0.1 + 0.2 + 0.4


async def test_a_failed_start_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    """The error quotes the last lines of the one that failed, and the others are stopped."""
    fails = _python("b", "import sys; print('the port is taken'); sys.exit(3)", ready=listens(1), after=("a",))
    supervisor = Supervisor((_python("a", WAITS), fails), tmp_path)
    with pytest.raises(LaunchError, match=r"(?s)b ended with code 3 before it was ready.*the port is taken"):
        await supervisor.start()
    assert [s.pid for s in supervisor.status()] == [None, None]


async def test_what_never_answers_is_named(tmp_path: Path) -> None:
    """A process that runs but does not serve fails the start after its time."""
    with Port() as port:
        silent = _python("a", WAITS, ready=http_answers(port.number, "/"), ready_within_s=0.3)
        with pytest.raises(LaunchError, match=r"a does not answer after 0.3 s"):
            await Supervisor((silent,), tmp_path).start()


async def test_a_one_shot_that_fails_stops_the_start(tmp_path: Path) -> None:
    """A database that cannot be upgraded is no database to start on; neither is one that takes for ever."""
    with pytest.raises(LaunchError, match="a ended with code 1"):
        await Supervisor((_python("a", "raise SystemExit(1)", one_shot=True),), tmp_path).start()
    with pytest.raises(LaunchError, match="a has not ended after"):
        await Supervisor((_python("a", WAITS, one_shot=True, ready_within_s=0.3),), tmp_path).start()


async def test_a_program_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """The message names the program."""
    absent = Process("a", ("/nonexistent/program",), one_shot=True)
    with pytest.raises(LaunchError, match=r"(?s)code 127.*cannot start /nonexistent/program"):
        await Supervisor((absent,), tmp_path).start()


async def test_the_deaf_are_killed(tmp_path: Path) -> None:
    """A process that ignores SIGTERM is killed after its time."""
    deaf = _python("a", IGNORES_TERM, stop_within_s=0.2)
    async with Supervisor((deaf,), tmp_path) as supervisor:
        pid = _of(supervisor, "a").pid
        await wait_for(lambda: "deaf" in (tmp_path / "a.log").read_text())
    assert pid is not None
    assert _gone(pid)


async def test_grandchildren_leave_with_their_parent(tmp_path: Path) -> None:
    """What a process has started, and would not stop, is gone when the process has been stopped."""
    async with Supervisor((_python("a", WITH_GRANDCHILD),), tmp_path):
        grandchild = int(await wait_for(lambda: (tmp_path / "a.log").read_text().strip()))
        assert not _gone(grandchild)
    assert _gone(grandchild)


async def test_nothing_outlives_a_killed_supervisor(tmp_path: Path) -> None:
    """After kill -9 of the parent its children are gone, and so are their children, which no signal told."""
    script = tmp_path / "parent.py"
    script.write_text(
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from app.launcher.process import Process\n"
        "from app.launcher.supervisor import Supervisor\n"
        "async def main():\n"
        f"    child = Process('a', (sys.executable, '-c', {WITH_GRANDCHILD!r}))\n"
        f"    async with Supervisor((child,), Path({str(tmp_path)!r})) as s:\n"
        "        print(s.status()[0].pid, flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    environment = {**os.environ, **module_path()}
    parent = await asyncio.create_subprocess_exec(
        sys.executable, str(script), stdout=subprocess.PIPE, env=environment, cwd=tmp_path
    )
    assert parent.stdout is not None
    child = int(await parent.stdout.readline())
    grandchild = int(await wait_for(lambda: (tmp_path / "a.log").read_text().strip()))
    parent.kill()
    await parent.wait()
    await wait_for(lambda: _gone(child) and _gone(grandchild))


async def test_a_process_is_ready_when_it_says_so(tmp_path: Path) -> None:
    """`app.notify.ready` reaches the supervisor; a process that ends without it fails the start."""
    says = "import signal; from app import notify; notify.ready(); signal.sigwait({signal.SIGTERM})"
    async with Supervisor((_python("a", says, notifies=True, environment=module_path()),), tmp_path) as supervisor:
        assert _of(supervisor, "a").state == "ready"
    with pytest.raises(LaunchError, match="before it was ready"):
        await Supervisor((_python("a", "pass", notifies=True),), tmp_path).start()


async def test_a_notice_knows_nothing_but_ready() -> None:
    """Other messages of the protocol are not readiness."""
    notice = Notice()
    code = "import sys; from app import notify; notify.ready()"
    assert not await notice.arrived()
    done = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, env={**os.environ, **module_path(), "NOTIFY_SOCKET": notice.address}
    )
    await done.wait()
    assert await notice.arrived()
    notice.close()
    notice.close()


async def test_what_a_process_uses_is_seen(tmp_path: Path) -> None:
    """CPU time grows with work, and memory is what the group holds."""
    works = "import time\nwhile time.process_time() < 0.3: pass\nimport signal; signal.sigwait({signal.SIGTERM})"
    async with Supervisor((_python("a", works),), tmp_path) as supervisor:
        await wait_for(lambda: _of(supervisor, "a").cpu_s >= 0.2)
        status = _of(supervisor, "a")
        assert status.pid is not None
        assert status.rss_bytes > 1_000_000
        assert usage.of_process(status.pid).cpu_s >= 0.2
    assert usage.of_process(status.pid) == usage.Usage(0.0, 0)


async def test_a_child_that_leads_its_own_group_is_counted(tmp_path: Path) -> None:
    """PostgreSQL's children do: what they use is the server's."""
    works = (
        "import os, time, signal\n"
        "if not os.fork():\n"
        "    os.setsid()\n"
        "    while time.process_time() < 0.3: pass\n"
        "signal.sigwait({signal.SIGTERM})"
    )
    async with Supervisor((_python("a", works),), tmp_path) as supervisor:
        await wait_for(lambda: _of(supervisor, "a").cpu_s >= 0.25)
        os.killpg(_child_of(_of(supervisor, "a").pid), signal.SIGTERM)


def _child_of(pid: int | None) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def test_a_log_stays_small(tmp_path: Path) -> None:
    """A file that has grown too large moves aside, and whoever writes to it goes on."""
    log = LogFile(tmp_path / "deep" / "a.log")
    assert log.last_lines() == ""
    with log.opened() as descriptor:
        os.write(descriptor, b"x" * MAX_BYTES + b"\nold\n")
        log.bound()
        os.write(descriptor, b"new\n")
    assert log.path.read_text() == "new\n"
    assert log.last_lines() == "  | new"
    assert log.path.with_name("a.log.1").stat().st_size > MAX_BYTES
    log.bound()
    assert log.path.read_text() == "new\n"


LISTENS = (
    "import socket, sys, signal; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); print(); signal.pause()"
)


def _is_given(number: int) -> bool:
    with Port(number) as port:
        return port.number == number


def test_a_port_is_held_and_given_to_nobody_else() -> None:
    """Two holders of any port never get the same one; a wanted port that is listened on is not given."""
    with Port() as first, Port() as second:
        assert first.number != second.number
    listener = subprocess.Popen([sys.executable, "-uc", LISTENS, str(first.number)], stdout=subprocess.PIPE)
    try:
        assert listener.stdout is not None
        assert listener.stdout.readline() == b"\n"
        assert not _is_given(first.number)
    finally:
        listener.kill()
        listener.communicate()
    wait_until(lambda: _is_given(first.number))


async def test_our_modules_run_whatever_lies_about(tmp_path: Path) -> None:
    """A folder named app where the command is given does not take the place of ours."""
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__init__.py").write_text("raise SystemExit('the wrong app')")
    done = await asyncio.create_subprocess_exec(
        *module("app.launcher.ports"), cwd=tmp_path, env={**os.environ, **module_path()}
    )
    assert await done.wait() == 0
