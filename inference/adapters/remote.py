"""A runtime in a process of its own: the caller's side of `inference.engine`.

A crash, a hang or a thirst for memory costs the calls under way and nothing else: the process is started again when the
next session is asked for, later and later while it keeps dying.
"""

from __future__ import annotations

import os
import selectors
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fcntl import F_ADD_SEALS, LOCK_EX, LOCK_NB, fcntl, flock
from mmap import PAGESIZE
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from inference import BackendNotInstalledError, DeviceLostError, InferenceError, InputError, UnsupportedModelError
from inference import engine as engine_file
from inference import engine_wire as wire
from inference.adapters.turns import Turns

if TYPE_CHECKING:
    from inference import Tensor

MIB: Final = 2**20
MEMORY_MB: Final = 4096
OPEN_S, RUN_S = 600.0, 30.0
GRACE_S: Final = 2.0
"""How long a cancelled run may take to end before its process is killed."""
LIVED_S: Final = 60.0
"""A process that has lived so long begins anew without waiting."""
LONGEST_WAIT_S: Final = 30.0
WATCH_S: Final = 0.1
PREFIX, SAID = "headrace-engine-", "said"
JUST_MADE_S: Final = 60.0
"""A folder so young may belong to somebody who has not locked it yet."""
_F_SEAL_SHRINK: Final = 2
_ERRORS: Final[Mapping[str, type[InferenceError]]] = {
    "absent": BackendNotInstalledError, "unsupported": UnsupportedModelError, "input": InputError,
    "lost": DeviceLostError, "protocol": DeviceLostError,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Place:
    """Where and how an engine runs."""

    python: Path
    """The interpreter of the environment that has the runtime."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables besides our own."""
    memory_mb: int = MEMORY_MB
    """What it may have in memory; beyond that it is ended."""
    arena_mb: int = 1024
    """Tensors of one call, in and out together."""
    start_s: float = 60.0
    open_s: float = OPEN_S
    """A compile that takes longer hangs."""
    run_s: float = RUN_S


class Engine:
    """One process, started when it is needed. Any thread may use it."""

    def __init__(self, place: Place) -> None:
        """Nothing is started yet."""
        self.place, self.turns = place, Turns()
        self._lock = threading.Lock()
        self._process: _Process | None = None
        self._deaths = 0
        self._not_before = 0.0

    def lane(self) -> Lane:
        """A connection to it. Raises DeviceLostError, BackendNotInstalledError."""
        with self._lock:
            if self._process is None or not self._process.alive:
                self._start()
            process = self._process
        if process is None:
            message = "the engine was stopped"
            raise DeviceLostError(message)
        return Lane(process, self.place)

    def _start(self) -> None:
        if self._process is not None:
            self._buried(self._process)
        wait = self._not_before - time.monotonic()
        if wait > 0:
            message = f"the engine died {self._deaths} times, last: {self._why}; it is started again in {wait:.0f} s"
            raise DeviceLostError(message)
        self._process = _Process(self.place)

    _why = ""

    def _buried(self, process: _Process) -> None:
        """Let the next start wait while it keeps dying: at once, then after 1, 2, 4 … s."""
        self._deaths = 1 if process.lived_s > LIVED_S else self._deaths + 1
        self._why = process.reason()
        later = 0.0 if self._deaths == 1 else min(2.0 ** (self._deaths - 2), LONGEST_WAIT_S)
        self._not_before = time.monotonic() + later
        process.stop()
        self._process = None

    def pid(self) -> int | None:
        """Of the process, while it runs."""
        process = self._process
        return process.pid if process is not None and process.alive else None

    def stop(self) -> None:
        """End it. The next lane starts another one."""
        with self._lock:
            if self._process is not None:
                self._process.stop()
            self._process, self._deaths, self._not_before = None, 0, 0.0


class _Process:
    """One run of the engine, with a private folder for its socket."""

    def __init__(self, place: Place) -> None:
        """Start it and wait until it answers. Raises BackendNotInstalledError, DeviceLostError."""
        sweep()
        self._folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        self.address = str(self._folder / "socket")
        self._said = (self._folder / SAID).open("w+b")
        # The engine writes through the same lock: it is free once both of us are gone.
        flock(self._said, LOCK_EX | LOCK_NB)
        told = [f"{name}={value}" for name, value in place.environment.items()]
        program = [str(place.python), "-B", str(Path(engine_file.__file__).resolve())]
        limits = ["--arena-mb", str(place.arena_mb)]
        words = [*(["env", *told] if told else []), *program, "--socket", self.address, *limits]
        self._most, self._outgrown, self._over = place.memory_mb * MIB, False, threading.Event()
        self._begun = time.monotonic()
        try:
            self._child = subprocess.Popen(  # noqa: S603 - the interpreter is the operator's choice
                words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, start_new_session=True
            )
        except OSError as error:
            self._said.close()
            shutil.rmtree(self._folder, ignore_errors=True)
            message = f"the engine's interpreter {place.python} cannot be started: {error.strerror}"
            raise BackendNotInstalledError(message) from error
        self.pid = self._child.pid
        if not self._ready(place.start_s):
            reason = self.settle()
            self.stop()
            raise DeviceLostError(reason)
        threading.Thread(target=self._watch, name="engine memory", daemon=True).start()

    def _watch(self) -> None:
        """From outside: a library that holds the interpreter's lock lets the engine notice nothing."""
        size = Path(f"/proc/{self.pid}/statm")
        while self.alive and not self._over.wait(WATCH_S):
            with suppress(OSError, IndexError):
                if int(size.read_bytes().split()[1]) * PAGESIZE > self._most:
                    self._outgrown = True
                    self._kill()

    def _kill(self) -> None:
        """A child that was not waited for keeps its number, so nobody else is hit."""
        if self.alive:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def settle(self) -> str:
        """Why it is no more; one that has closed its side is about to end."""
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(GRACE_S)
        return self.reason()

    def _ready(self, within_s: float) -> bool:
        out = self._child.stdout
        with selectors.DefaultSelector() as selector:
            if out is None:
                return False
            selector.register(out, selectors.EVENT_READ)
            return bool(selector.select(within_s)) and out.readline() == b"ready\n"

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._child.poll() is None

    @property
    def lived_s(self) -> float:
        """Since it was started."""
        return time.monotonic() - self._begun

    def reason(self) -> str:
        """Why it is no more, or does not answer."""
        status = self._child.poll()
        if self._outgrown:
            return f"the engine (pid {self.pid}) took more than {self._most // MIB} MB and was ended"
        with suppress(OSError, ValueError):
            self._said.seek(0)
            lines = self._said.read()[-4096:].decode(errors="replace").strip().splitlines()
            last = f": {lines[-1].strip()[:300]}" if lines else ""
            if status is None:
                return f"the engine (pid {self.pid}) does not answer{last}"
            if status < 0:
                return f"the engine (pid {self.pid}) died of {signal.Signals(-status).name}{last}"
            return f"the engine (pid {self.pid}) ended with status {status}{last}"
        return f"the engine (pid {self.pid}) was stopped"

    def stop(self) -> None:
        """End it, whatever it does, and leave nothing behind. Safe to call twice."""
        self._over.set()
        self._kill()
        self._child.wait()
        for one in (self._child.stdin, self._child.stdout, self._said):
            if one is not None:
                with suppress(OSError):
                    one.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def sweep() -> None:
    """Remove what is left of engines whose callers were killed."""
    for said in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{SAID}"):
        with suppress(OSError), said.open("rb") as file:
            if time.time() - os.fstat(file.fileno()).st_mtime > JUST_MADE_S:
                flock(file, LOCK_EX | LOCK_NB)
                shutil.rmtree(said.parent, ignore_errors=True)


class Lane:
    """A connection to an engine; one call at a time."""

    def __init__(self, process: _Process, place: Place) -> None:
        """Raises DeviceLostError."""
        self._process, self._place = process, place
        self._line = socket.socket(socket.AF_UNIX)
        fd = os.memfd_create("headrace-tensors", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        # What the other side cuts off would be a bus error here.
        fcntl(fd, F_ADD_SEALS, _F_SEAL_SHRINK)
        self._arena = wire.Arena(fd, place.arena_mb * MIB)
        try:
            self._line.settimeout(place.start_s)
            self._line.connect(process.address)
            hello = self.call({"op": "hello", "protocol": wire.PROTOCOL}, place.start_s, fds=(fd,))
        except OSError as error:
            self.close()
            raise DeviceLostError(process.reason()) from error
        except InferenceError:
            self.close()
            raise
        self.number, self.about = hello.get("lane"), hello

    def call(self, body: wire.Body, within_s: float, fds: Sequence[int] = ()) -> wire.Body:
        """A request and its answer. Raises what the engine says, DeviceLostError, and TimeoutError."""
        try:
            self._line.settimeout(within_s)
            wire.send(self._line, body, fds)
            answer, fd = wire.receive(self._line)
        except TimeoutError:
            raise
        except wire.FeedError as error:
            raise InputError(str(error)) from error
        except (OSError, EOFError, wire.EngineError) as error:
            raise DeviceLostError(self._process.settle()) from error
        if fd is not None:
            os.close(fd)
        if "error" in answer:
            raise _ERRORS.get(str(answer["error"]), DeviceLostError)(str(answer.get("message", ""))[:2000])
        return answer

    def run(self, session: int, names: Sequence[str], feeds: Mapping[str, Tensor], cancel: Lane) -> list[Any]:
        """Every output; arrays are copies. Raises InputError, DeviceLostError. `cancel`: another lane."""
        try:
            told, end = wire.pack(self._arena, list(feeds.values()))
        except wire.FeedError as error:
            raise InputError(str(error)) from error
        listed = [{"name": name, **one} for name, one in zip(feeds, told, strict=True)]
        body = {"op": "run", "session": session, "names": list(names), "feeds": listed, "free": end}
        try:
            answer = self.call(body, self._place.run_s)
        except TimeoutError:
            self._give_up(cancel)
            message = f"the engine did not answer within {self._place.run_s:g} s"
            raise DeviceLostError(message) from None
        try:
            found = [wire.unpack(self._arena, one) for one in answer["outputs"]]
        except (wire.EngineError, KeyError, TypeError) as error:
            message = f"the engine's answer is none: {error}"
            raise DeviceLostError(message) from error
        return [np.array(one) if isinstance(one, np.ndarray) else one for one in found]

    def _give_up(self, cancel: Lane) -> None:
        """Cancel the run; a process that does not let go of it is killed."""
        try:
            cancel.call({"op": "cancel", "lane": self.number}, GRACE_S)
            self._line.settimeout(GRACE_S)
            wire.receive(self._line)
        except (OSError, EOFError, wire.EngineError, InferenceError):
            self._process.stop()

    def kill(self) -> None:
        """End the whole process: it hangs."""
        self._process.stop()

    def close(self) -> None:
        """Let go. The engine closes what this lane has opened. Safe to call twice."""
        self._line.close()
        self._arena.close()
