"""The binary form of a batch: the same bytes in the journal, in the queue and in the history.

Layout of `columns`, version 1: zstd over msgpack of `Columns`; every array is little-endian raw bytes. The first
difference of the tag ids and of the source times is stored, because neighbours are alike and compress away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from connectors import Batch

MAX_COLUMNS = 64 * 2**20
"""A batch larger than this once unpacked is refused: bytes from disk or queue are foreign too."""


class RefusalRecord(msgspec.Struct, array_like=True, frozen=True):
    """`connectors.Refusal` in columns."""

    address: str
    reason: str
    detail: str
    excerpt: bytes
    readings: int


class Record(msgspec.Struct, array_like=True, frozen=True):
    """One journal record: a batch, or a tick of the clock (connection 0, count 0)."""

    connection: int
    revision: int
    received_time: int
    alive_until: int
    count: int
    first_time: int
    last_time: int
    lost: int
    refused: tuple[RefusalRecord, ...]
    columns: bytes
    """Empty when count is 0."""

    def readings(self) -> int:
        """What the ledger counts as read: good ones and refused ones."""
        return self.count + sum(r.readings for r in self.refused)


class WindowBlock(msgspec.Struct, array_like=True, frozen=True):
    """`inference.window.Windows` of one pipeline version, as raw little-endian bytes."""

    version_id: int
    rows: int
    inputs: int
    length: int
    block: bytes
    """float64 (rows, inputs)."""
    status: bytes
    """uint32 (rows, inputs)."""
    first_row: bytes
    start_time: bytes
    end_time: bytes
    sequence: bytes
    """int64 (n,) each."""
    quality: bytes
    """uint32 (n,)."""
    refused: tuple[tuple[int, str], ...]
    context: tuple[dict[str, object], ...]
    newest: int


class Message(msgspec.Struct, array_like=True, frozen=True):
    """One Celery message: a journal record under its id, with the windows it closed."""

    version: int
    """1."""
    journal: str
    epoch: int
    number: int
    record: Record
    windows: tuple[WindowBlock, ...]


def to_record(connection: int, batch: Batch) -> Record:
    """Pack a batch; compresses once for disk, queue and history."""
    raise NotImplementedError


def encode_columns(batch: Batch) -> bytes:
    """The columns of a non-empty batch."""
    raise NotImplementedError


def decode_columns(
    columns: bytes,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], Mapping[int, object], NDArray[np.uint32]]:
    """tags, source_time, values, others, status. ValueError when the bytes are not ours or unpack too large."""
    raise NotImplementedError
