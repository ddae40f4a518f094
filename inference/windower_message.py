"""One message is one window: a waveform, a spectrum, an image."""

from __future__ import annotations

import io
import math
import warnings
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from inference.windower_spec import BAD_STATUS, FLAW_STATUS, FLAWS, NOT_FINITE, WRONG_TYPE, Windows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from inference.resample import Readings
    from inference.windower_context import Context
    from inference.windower_spec import Spec

WRONG_SHAPE: Final = "wrong_shape"
WRONG_STATUS: Final = int(FLAW_STATUS[WRONG_TYPE])
MODES: Final = {1: ("L", "I;16"), 3: ("RGB",), 4: ("RGBA",)}
"""By channels, what an image may be made of; none is turned into another one."""


class MessageState(msgspec.Struct, array_like=True):
    """A windower of messages between two calls; nothing of a message is kept."""

    sequence: int
    late: int
    end: int
    newest: int
    digest: bytes


class Message:
    """The windower of a `message` spec.

    Each message of its tag closes one window at once, over its cells in the order that they lie in: the last axis runs
    fastest, an image has rows, columns and channels. Messages go by source time: one that is older than the newest is
    late and changes nothing, and the same one again is no other. The end times of windows differ: a message at the time
    of the one before it ends 1 ns later. What is of another shape or type, or not finite, refuses its window.
    """

    def __init__(self, spec: Spec, context: Context) -> None:
        """Nothing fed yet."""
        self._spec, self._context = spec, context
        self._severity = int(spec.inputs[0].policy != "good")
        self._sequence = 0
        self.late = 0
        self._end = self._newest = -1
        self._digest = b""
        self._pending: list[tuple[int, object, int]] = []

    def hear(self, connection: int, alive_until: int) -> None:
        """Silence means nothing: there was no message."""

    def lose(self, connection: int, since: int, until: int) -> None:
        """Messages that are gone have no window; the gap is told elsewhere."""

    def take(self, readings: Readings) -> None:
        """Messages come by `message`."""

    def message(self, time: int, value: object, status: int, *, news: bool) -> None:
        """One message. `news`: whether it has a window; what is in force at a start has none."""
        digest = sha256(_content(value)).digest()
        if time < self._newest:
            self.late += 1
        elif (time, digest) != (self._newest, self._digest):
            self._newest, self._digest = time, digest
            if news:
                self._pending.append((time, value, status))

    def close(self, clock: int) -> Windows | None:  # noqa: ARG002 - as the others
        """One window each."""
        if not self._pending:
            return None
        pending, self._pending = self._pending, []
        starts, ends, cells, status, refused = [], [], [], [], []
        for index, (time, value, given) in enumerate(pending):
            starts.append(max(self._end, 0) if self._end >= 0 else time)
            self._end = max(time, self._end + 1)
            ends.append(self._end)
            made = self._cells(value, given)
            if isinstance(made, str):
                refused.append((index, f"{made}:{self._spec.inputs[0].tag}"))
                status.append(int(FLAW_STATUS[FLAWS.index(made)]) if made in FLAWS else WRONG_STATUS)
                cells.append(np.full(self._spec.length, np.nan))
            else:
                status.append(given)
                cells.append(made)
        return self._emit(starts, ends, cells, status, tuple(refused))

    def _emit(
        self, starts: list[int], ends: list[int], cells: Sequence[NDArray[np.float64]], status: list[int],
        refused: tuple[tuple[int, str], ...],
    ) -> Windows:
        n, length = len(ends), self._spec.length
        first, self._sequence = self._sequence + 1, self._sequence + n
        quality = np.array(status, dtype=np.uint32)
        return Windows(
            block=np.concatenate(cells)[:, None], status=np.repeat(quality, length)[:, None],
            first_row=np.arange(n, dtype=np.int64) * length, length=length,
            start_time=np.array(starts, dtype=np.int64), end_time=np.array(ends, dtype=np.int64),
            sequence=np.arange(first, first + n, dtype=np.int64), quality=quality, refused=refused,
            context=self._context.at(ends), newest=self._newest,
        )

    def _cells(self, value: object, status: int) -> NDArray[np.float64] | str:
        """Shape (length,), or the word for why there are none."""
        if status >> 30 > self._severity:
            return FLAWS[BAD_STATUS]
        if not isinstance(value, bytes | np.ndarray):
            return FLAWS[WRONG_TYPE]
        found = picture(value, self._spec.shape) if isinstance(value, bytes) else value
        if isinstance(found, str):
            return found
        if found.dtype.kind not in "fiub":
            return FLAWS[WRONG_TYPE]
        if found.shape != self._spec.shape:
            return WRONG_SHAPE
        made = found.reshape(-1).astype(np.float64)
        return made if np.isfinite(made).all() else FLAWS[NOT_FINITE]

    def waiting(self) -> tuple[int, ...]:
        """Nothing: the next message has a window."""
        return ()

    def snapshot(self) -> bytes:
        """All of it, as it stands between two calls."""
        return msgspec.msgpack.encode(
            MessageState(self._sequence, self.late, self._end, self._newest, self._digest)
        )

    def renumber(self) -> None:
        """The next window is number 1 again."""
        self._sequence = 0

    def resume(self, data: bytes) -> None:
        """Take up where the snapshot was made. Raises MsgspecError."""
        state = msgspec.msgpack.decode(data, type=MessageState)
        self._sequence, self.late, self._end = state.sequence, state.late, state.end
        self._newest, self._digest = state.newest, state.digest


def _content(value: object) -> bytes:
    """What tells one message from another."""
    if isinstance(value, bytes):
        return value
    return value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode()


def picture(content: bytes, shape: tuple[int, ...]) -> NDArray[np.generic] | str:
    """A JPEG or PNG of this shape (rows, columns, or with channels), or the word for why it is none.

    What is larger than it should be is not decoded: its size stands before its content.
    """
    from PIL import Image  # noqa: PLC0415 - processes that see no image do without

    *_, channels = (*shape, 1)[:3]
    try:
        with warnings.catch_warnings():
            # It says that an image is large, which is refused here by its size.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=("JPEG", "PNG")) as image:
                if (image.height, image.width) != shape[:2] or image.mode not in MODES.get(channels, ()):
                    return WRONG_SHAPE
                found: NDArray[np.generic] = np.asarray(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return FLAWS[WRONG_TYPE]
    return found.reshape(shape) if found.size == math.prod(shape) else WRONG_SHAPE
