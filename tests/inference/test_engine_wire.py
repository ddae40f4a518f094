"""What the engine and its caller believe of each other's bytes: nothing that was not checked."""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference import DeviceLostError
from inference import engine_wire as wire
from inference.adapters.remote import Lane, Place, _Process

X = np.ones((3, 16), np.float32)
HERE = Place(Path(sys.executable))


def _spoken(frames: list[bytes], fd: bool = False) -> list[dict[str, Any]]:  # noqa: FBT001, FBT002
    """What an engine answers to these bytes, until it lets go."""
    process = _Process(HERE)
    line = socket.socket(socket.AF_UNIX)
    line.settimeout(10)
    line.connect(process.address)
    try:
        for frame in frames:
            memory = os.memfd_create("test") if fd else -1
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", memory))] if fd else []
            line.sendmsg([frame], rights)
            fd = False
        line.shutdown(socket.SHUT_WR)
        found = []
        while True:
            try:
                found.append(wire.receive(line)[0])
            except (EOFError, OSError):
                return found
    finally:
        line.close()
        assert process.alive
        process.stop()


def _frame(body: object) -> bytes:
    data = json.dumps(body).encode()
    return b"HRE1" + struct.pack("<I", len(data)) + data


HELLO = _frame({"op": "hello", "protocol": 1})


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "no frame"),
        (b"HRE1" + struct.pack("<I", 2**31), "no frame"),
        (b"HRE1" + struct.pack("<I", 3) + b"{x}", "no JSON"),
        (b"HRE1" + struct.pack("<I", 40_000) + b"[" * 40_000, "no JSON"),
        (_frame([1]), "an object"),
        (HELLO, "with a memory file"),
    ],
)
def test_what_does_not_speak_the_protocol_is_told_and_let_go(sent: bytes, said: str) -> None:
    """The engine goes on serving others."""
    assert said in _spoken([sent])[-1]["message"]


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        ({"op": "shutdown"}, "protocol", "no request"),
        ({}, "protocol", "no request"),
        ({"op": "run"}, "protocol", "not whole"),
        ({"op": "run", "session": 1, "names": [], "feeds": [], "free": 0}, "lost", "does not hold"),
        ({"op": "open", "driver": "../engine"}, "absent", "no driver"),
        ({"op": "open", "driver": "wire"}, "protocol", "not whole"),
        ({"op": "open", "driver": "ort"}, "protocol", "not whole"),
        ({"op": "close", "session": []}, "protocol", "not whole"),
    ],
)
def test_a_request_that_is_none_is_refused(body: dict[str, Any], kind: str, said: str) -> None:
    """With whose move it is; the lane stays."""
    hello, answer, ping = _spoken([HELLO, _frame(body), _frame({"op": "ping"})], fd=True)
    assert hello["protocol"] == 1
    assert (answer["error"], said in answer["message"]) == (kind, True)
    assert ping["sessions"] == 0


LIES = [
    {"dtype": "float32", "shape": [2, 3], "at": 2**20},
    {"dtype": "float32", "shape": [2**40], "at": 0},
    {"dtype": "float32", "shape": [2**62, 8], "at": 0},
    {"dtype": "float32", "shape": [-1], "at": 0},
    {"dtype": "float32", "shape": [1], "at": -4},
    {"dtype": "object", "shape": [1], "at": 0},
    {"dtype": "nonsense", "shape": [1], "at": 0},
    {"dtype": "float32", "shape": "x", "at": 0},
    {"shape": [1]},
    {"texts": ["a"], "shape": [2]},
    {"maps": [1]},
]


@pytest.mark.parametrize("told", LIES)
def test_a_tensor_that_lies_is_refused_by_either_side(told: dict[str, Any]) -> None:
    """Places outside the memory, sizes beyond any, types that are no numbers."""
    fd = os.memfd_create("test")
    os.ftruncate(fd, 2**20)
    arena = wire.Arena(fd, 2**30)
    with pytest.raises(wire.EngineError):
        wire.unpack(arena, told)
    arena.close()


class Liar(threading.Thread):
    """Answers as an engine does, and then says this."""

    def __init__(self, address: str, answer: bytes) -> None:
        """Listens at once."""
        super().__init__(daemon=True)
        self.answer = answer
        self.listening = socket.socket(socket.AF_UNIX)
        self.listening.bind(address)
        self.listening.listen(8)

    def run(self) -> None:
        """One caller."""
        line, _ = self.listening.accept()
        wire.receive(line)
        wire.send(line, {"lane": 1, "protocol": 1})
        wire.receive(line)
        line.sendall(self.answer)
        line.close()
        self.listening.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"", b"HRE1", b"nonsense" * 9, b"HRE1" + struct.pack("<I", 2**31), _frame({"outputs": 5}), _frame({}),
        _frame({"outputs": [LIES[1]]}), _frame({"error": "???", "message": "no"}), _frame({"error": ["x"]}),
    ],
)  # fmt: skip
def test_an_engine_that_lies_is_a_lost_device(tmp_path: Path, answer: bytes) -> None:
    """Whatever it says, nothing else is raised here."""
    process = _Process(HERE)
    real, process.address = process.address, str(tmp_path / "liar")
    liar = Liar(process.address, answer)
    liar.start()
    lane = Lane(process, HERE)
    process.stop()
    with pytest.raises(DeviceLostError):
        lane.run(1, ["y"], {"x": X}, lane)
    lane.close()
    liar.join()
    assert real
