"""The engine process: sessions of a runtime in an environment of its own, asked over a Unix socket.

It is started by its path with the interpreter of a maker's environment, imports nothing of the package and loads the
files beside it by theirs. Standard library and numpy, Python 3.8 upwards. The protocol is in `engine_wire`.
"""

from __future__ import annotations

import sys

# The folder of this file has modules named like those of the standard library, and of what numpy loads.
sys.path[:] = [one for one in sys.path if one and not __file__.startswith(one.rstrip("/") + "/engine")]

import argparse  # noqa: E402
import fcntl  # noqa: E402
import importlib.util  # noqa: E402
import mmap  # noqa: E402
import os  # noqa: E402
import platform  # noqa: E402
import signal  # noqa: E402
import socket  # noqa: E402
import struct  # noqa: E402
import threading  # noqa: E402
from contextlib import suppress  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import TYPE_CHECKING, Any  # noqa: E402

import numpy as np  # noqa: E402

if TYPE_CHECKING:
    from inference import engine_wire as wire

HERE = Path(__file__).resolve().parent
MOST_LANES = 64
_CREDENTIALS = struct.Struct("3i")


def beside(name: str) -> Any:  # noqa: ANN401 - a module
    """A module of the folder of this file, by its path."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, str(HERE / f"{name}.py"))
        if spec is None or spec.loader is None:
            raise ImportError(name)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


if not TYPE_CHECKING:
    wire = beside("engine_wire")


class Engine:
    """What all lanes of one process share."""

    def __init__(self, most_bytes: int) -> None:
        """`most_bytes`: of one lane's arena."""
        self.most_bytes = most_bytes
        self.sessions: dict[int, Any] = {}
        self.running: dict[int, Any] = {}
        """By lane, what can be cancelled."""
        self._lock = threading.Lock()
        self._last = 0

    def number(self) -> int:
        """Of a session or lane; never used twice."""
        with self._lock:
            self._last += 1
            return self._last

    def drop(self, key: int) -> None:
        """Free a session; safe for one that is gone."""
        session = self.sessions.pop(key, None)
        if session is not None:
            session.close()

    def driver(self, name: object) -> Any:  # noqa: ANN401 - a module
        """The module that knows a runtime. AbsentError when there is none of this name."""
        if not isinstance(name, str) or not name.isidentifier() or not (HERE / f"engine_{name}.py").exists():
            message = f"this engine has no driver {name!r}"
            raise wire.AbsentError(message)
        with self._lock:
            return beside(f"engine_{name}")


class Lane:
    """One connection: requests one after the other."""

    def __init__(self, engine: Engine, line: socket.socket) -> None:
        """Call `serve`."""
        self._engine, self._line = engine, line
        self._arena: wire.Arena | None = None
        self._number = engine.number()
        self._mine: set[int] = set()

    def serve(self) -> None:
        """Until the caller is gone; then its sessions are closed."""
        try:
            with suppress(EOFError, OSError):
                self._serve()
        finally:
            self._line.close()
            for key in self._mine:
                self._engine.drop(key)
            if self._arena is not None:
                self._arena.close()

    def _serve(self) -> None:
        try:
            while True:
                body, fd = wire.receive(self._line)
                if fd is not None:
                    self._meet(fd)
                wire.send(self._line, self._said(body))
        except wire.EngineError as error:
            # Whoever does not speak the protocol is told so, and let go.
            wire.send(self._line, {"error": error.kind, "message": str(error)})

    def _meet(self, fd: int) -> None:
        if self._arena is not None:
            os.close(fd)
            message = "a lane has one memory file"
            raise wire.EngineError(message)
        self._arena = wire.Arena(fd, self._engine.most_bytes)

    def _said(self, body: wire.Body) -> wire.Body:
        acts = {
            "hello": self._hello, "runtime": self._runtime, "compile": self._compile, "open": self._open,
            "run": self._run, "close": self._close, "ping": self._ping, "cancel": self._cancel,
        }  # fmt: skip
        if body.get("op") not in acts:
            return {"error": "protocol", "message": f"there is no request {body.get('op')!r}"}
        try:
            answer: wire.Body = acts[body["op"]](body)
        except wire.EngineError as error:
            return {"error": error.kind, "message": str(error)}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            return {"error": "protocol", "message": f"the request {body['op']} is not whole: {error!r}"}
        except MemoryError:
            return {"error": "lost", "message": "the engine has no memory left for this call"}
        return answer

    def _hello(self, body: wire.Body) -> wire.Body:
        if body["protocol"] != wire.PROTOCOL or self._arena is None:
            message = f"this engine speaks protocol {wire.PROTOCOL}, with a memory file"
            raise wire.EngineError(message)
        return {"protocol": wire.PROTOCOL, "lane": self._number, "pid": os.getpid(),
                "python": platform.python_version(), "numpy": np.__version__}  # fmt: skip

    def _runtime(self, body: wire.Body) -> wire.Body:
        found: wire.Body = self._engine.driver(body["driver"]).runtime(body)
        return found

    def _compile(self, body: wire.Body) -> wire.Body:
        made: wire.Body = self._engine.driver(body["driver"]).compile_model(body)
        return made

    def _open(self, body: wire.Body) -> wire.Body:
        made, told = self._engine.driver(body["driver"]).open_session(body)
        key = self._engine.number()
        self._engine.sessions[key] = made
        self._mine.add(key)
        return dict(told, session=key)

    def _run(self, body: wire.Body) -> wire.Body:
        session = self._engine.sessions.get(body["session"])
        if session is None or self._arena is None:
            message = "the engine does not hold that session"
            raise wire.LostError(message)
        feeds = {one["name"]: wire.unpack(self._arena, one) for one in body["feeds"]}
        order = session.order()
        self._engine.running[self._number] = order
        try:
            answers = session.run(body["names"], feeds, order)
        finally:
            self._engine.running.pop(self._number, None)
        return {"outputs": wire.pack(self._arena, answers, int(body["free"]))[0]}

    def _close(self, body: wire.Body) -> wire.Body:
        self._mine.discard(body["session"])
        self._engine.drop(body["session"])
        return {}

    def _ping(self, _body: wire.Body) -> wire.Body:
        return {"rss": resident(), "sessions": len(self._engine.sessions)}

    def _cancel(self, body: wire.Body) -> wire.Body:
        """A run of another lane; whether one was under way."""
        order = self._engine.running.get(body["lane"])
        if order is not None:
            order.cancel()
        return {"cancelled": order is not None}


def resident(pid: object = "self") -> int:
    """Bytes of a process, this one by default, that are in memory. OSError where it is gone."""
    return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * mmap.PAGESIZE


def _tied() -> None:
    """Let the kernel kill us when the caller ends, also while a maker's library holds the interpreter's lock."""
    fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(0, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)


def _orphaned() -> None:
    """The same by ourselves, where the caller had ended before the kernel was told."""
    while os.read(0, 4096):
        pass
    os._exit(0)


def _ours(line: socket.socket) -> bool:
    """Whether the process at the other end is of our user."""
    peer = line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return bool(_CREDENTIALS.unpack(peer)[1] == os.getuid())


def main() -> None:
    """Serve until the caller is gone."""
    words = argparse.ArgumentParser()
    words.add_argument("--socket", required=True)
    words.add_argument("--arena-mb", type=int, default=1024)
    given = words.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _tied()
    threading.Thread(target=_orphaned, daemon=True).start()
    engine = Engine(given.arena_mb * 2**20)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(given.socket)
    listening.listen(MOST_LANES)
    os.write(1, b"ready\n")
    # Nobody reads on: what makers' libraries print would fill the pipe, and they would wait for ever.
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    while True:
        line, _ = listening.accept()
        if threading.active_count() > MOST_LANES or not _ours(line):
            line.close()
            continue
        threading.Thread(target=Lane(engine, line).serve, daemon=True).start()


if __name__ == "__main__":
    main()
