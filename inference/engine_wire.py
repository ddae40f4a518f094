"""What the engine process and its caller say to each other: frames over a socket, numbers in memory that both see.

Protocol 1. A frame is `HRE1`, the length of its body (uint32, little-endian) and the body, JSON in UTF-8. A lane (one
connection) has one request at a time. With its first frame the caller passes a memory file: numbers lie there and are
not copied on their way in; a frame says only where. The caller's come first, the engine's answers behind them, and
either side may make the file longer. Standard library and numpy, Python 3.8 upwards: both sides load this file.
"""

from __future__ import annotations

import array
import json
import mmap
import os
import socket
import struct
from typing import TYPE_CHECKING, Any, Dict, Optional, Sequence, Tuple  # noqa: UP035 - Python 3.8

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

PROTOCOL = 1
MAGIC = b"HRE1"
LARGEST_BODY = 16 * 2**20
"""Bytes of a frame's body; texts travel in it."""
ALIGN = 64
BLOCK = 2**20
NUMBERS = "biuf"
_HEAD = struct.Struct("<4sI")

Body = Dict[str, Any]  # noqa: UP006 - Python 3.8
Received = Tuple[Body, Optional[int]]  # noqa: UP006, UP045 - Python 3.8


class EngineError(Exception):
    """Said to the caller; `kind` tells whose move it is."""

    kind = "protocol"


class AbsentError(EngineError):
    """A runtime is not there."""

    kind = "absent"


class UnsupportedError(EngineError):
    """The runtime does not take the model."""

    kind = "unsupported"


class FeedError(EngineError):
    """The model does not take what it was fed."""

    kind = "input"


class LostError(EngineError):
    """A session or device is gone."""

    kind = "lost"


KINDS = {one.kind: one for one in (EngineError, AbsentError, UnsupportedError, FeedError, LostError)}


def send(line: socket.socket, body: Body, fds: Sequence[int] = ()) -> None:
    """One frame. Raises OSError, and FeedError for a body that is too large."""
    data = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    if len(data) > LARGEST_BODY:
        message = f"{len(data)} bytes of texts in one call: feed fewer rows"
        raise FeedError(message)
    passed = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    data = _HEAD.pack(MAGIC, len(data)) + data
    sent = line.sendmsg([data], passed)
    line.sendall(data[sent:])


def receive(line: socket.socket) -> Received:
    """A frame's body, and the file that came with it or None. Raises EOFError, OSError, EngineError."""
    passed = array.array("i")
    head, ancillary, _, _ = line.recvmsg(_HEAD.size, socket.CMSG_SPACE(passed.itemsize))
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            passed.frombytes(data[: len(data) - len(data) % passed.itemsize])
    try:
        return _body(line, head), (passed[0] if passed else None)
    except BaseException:
        for fd in passed:
            os.close(fd)
        raise


def _body(line: socket.socket, head: bytes) -> Body:
    if not head:
        raise EOFError
    magic, length = _HEAD.unpack(head + _exactly(line, _HEAD.size - len(head)))
    if magic != MAGIC or length > LARGEST_BODY:
        message = "this is no frame of the engine's protocol"
        raise EngineError(message)
    try:
        found = json.loads(_exactly(line, length).decode())
    except (ValueError, RecursionError) as error:
        message = "a frame's body is no JSON"
        raise EngineError(message) from error
    if not isinstance(found, dict):
        message = "a frame's body is an object"
        raise EngineError(message)
    return found


def _exactly(line: socket.socket, size: int) -> bytes:
    parts = []
    while size:
        part = line.recv(min(size, BLOCK))
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


class Arena:
    """A memory file that both sides see."""

    def __init__(self, fd: int, most: int) -> None:
        """`most`: bytes it may grow to. The file is ours from here on."""
        self.fd, self.most = fd, most
        self._map: mmap.mmap | None = None

    def view(self, end: int) -> memoryview:
        """Its bytes, at least up to `end`. EngineError when the file is shorter."""
        if self._map is None or len(self._map) < end:
            size = os.fstat(self.fd).st_size
            if not 0 < end <= min(size, self.most):
                message = "a tensor lies outside the memory that both sides see"
                raise EngineError(message)
            # Arrays that lie in the mapping before keep it.
            self._map = mmap.mmap(self.fd, size)
        return memoryview(self._map)

    def grow(self, end: int) -> None:
        """Make room up to `end`. FeedError beyond the limit, OSError when there is no memory."""
        if end > self.most:
            message = f"{end} bytes of tensors in one call, at most {self.most}: feed fewer rows"
            raise FeedError(message)
        if end > os.fstat(self.fd).st_size:
            os.ftruncate(self.fd, min(self.most, -(-end // BLOCK) * BLOCK))

    def close(self) -> None:
        """Let go of the file. Arrays that lie in it keep their mapping. Safe to call twice."""
        self._map = None
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


def pack(arena: Arena, values: Sequence[Any], at: int = 0) -> Tuple[list[Body], int]:  # noqa: UP006 - Python 3.8
    """What a frame says of tensors, and where they end in the arena. Raises FeedError.

    `values`: arrays of numbers, which are put into the arena from `at` on; arrays of texts and sequences of maps, which
    go into the frame.
    """
    told: list[Body] = []
    laid = []
    end = at
    for value in values:
        if isinstance(value, np.ndarray) and value.dtype.kind in NUMBERS:
            begin = -(-end // ALIGN) * ALIGN
            end = begin + value.nbytes
            laid.append((begin, value))
            told.append({"dtype": value.dtype.name, "shape": list(value.shape), "at": begin})
        else:
            told.append(_texts(value))
    if end > at:
        arena.grow(end)
        room = arena.view(end)
        for begin, value in laid:
            if value.nbytes:
                np.frombuffer(room, value.dtype, value.size, begin).reshape(value.shape)[...] = value
    return told, end


def _texts(value: Any) -> Body:  # noqa: ANN401 - an array of objects, or a list
    """Texts, or a sequence of maps: their keys may be numbers, which JSON would turn into texts."""
    flat = value.reshape(-1).tolist() if isinstance(value, np.ndarray) else list(value)
    if flat and all(isinstance(one, dict) for one in flat):
        return {"maps": [[[key, float(number)] for key, number in one.items()] for one in flat]}
    if not isinstance(value, np.ndarray):
        message = f"an output of type {type(value).__name__} cannot cross the border of a model"
        raise FeedError(message)
    return {"texts": [str(one) for one in flat], "shape": list(value.shape)}


def unpack(arena: Arena, told: Body) -> Any:  # noqa: ANN401 - an array, or a list of maps
    """A tensor that a frame speaks of; numbers are a view into the arena. EngineError when it is none."""
    try:
        if "maps" in told:
            return [{key: float(number) for key, number in one} for one in told["maps"]]
        shape = tuple(map(int, told["shape"]))
        if "texts" in told:
            return np.array([str(one) for one in told["texts"]], object).reshape(shape)
        return _numbers(arena, np.dtype(told["dtype"]), shape, int(told["at"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        message = f"a tensor is not described as one: {error}"
        raise EngineError(message) from error


def _numbers(arena: Arena, dtype: np.dtype[Any], shape: Tuple[int, ...], at: int) -> NDArray[Any]:  # noqa: UP006
    count = 1
    for size in shape:
        count *= size
    if dtype.kind not in NUMBERS or at < 0 or min(shape, default=0) < 0:
        message = f"a tensor of type {dtype}, shape {list(shape)} at {at}"
        raise EngineError(message)
    if not count:
        return np.empty(shape, dtype)
    return np.frombuffer(arena.view(at + count * dtype.itemsize), dtype, count, at).reshape(shape)
