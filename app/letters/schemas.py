"""Windows as a dead letter keeps them: packed, unpacked, made to fit a version, and mended by a person.

Layout, version 1: zstd over msgpack of `Kept`; every array is little-endian raw bytes, row-major.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
import zstandard

from app import times
from app.records import WindowBlock
from connectors import Status

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from inference.window import Spec

VERSION: Final = 1
MAX_BYTES: Final = 4 * 2**20
"""Cells of one letter, at most: of a message with more windows the first ones are kept."""
MAX_UNPACKED: Final = 4 * MAX_BYTES
"""With statuses and contexts: what unpacks to more is refused."""
MAX_OPEN: Final = 1000
"""Letters of one version that wait for somebody: beyond that no windows are kept, so that no model fills a disk."""
CELL_BYTES: Final = 12
"""A number and its status."""


class LetterError(ValueError):
    """What was asked of a dead letter cannot be done; the message says why and what to do."""


class Kept(msgspec.Struct, array_like=True, frozen=True):
    """n windows, none of which shares a row with another."""

    version: int
    cells: str
    """`<f8` or `<f4`."""
    length: int
    inputs: int
    values: bytes
    """(n, length, inputs)."""
    status: bytes
    """uint32 (n, length, inputs)."""
    start: bytes
    end: bytes
    sequence: bytes
    """int64 (n,) each."""
    quality: bytes
    """uint32 (n,)."""
    context: tuple[dict[str, object], ...]
    newest: int


class Windows:
    """Kept windows as arrays."""

    __slots__ = ("end", "kept", "quality", "status", "values")

    def __init__(self, kept: Kept) -> None:
        """ValueError when its columns differ in length."""
        shape = (-1, kept.length, kept.inputs)
        self.kept = kept
        self.values = np.frombuffer(kept.values, dtype=kept.cells).reshape(shape)
        """(n, length, inputs)."""
        self.status = np.frombuffer(kept.status, dtype="<u4").reshape(shape)
        self.end = np.frombuffer(kept.end, dtype="<i8")
        """(n,), ns."""
        self.quality = np.frombuffer(kept.quality, dtype="<u4")
        lengths = {len(self.values), len(self.status), len(self.end), len(self.quality)}
        lengths |= {len(one) // 8 for one in (kept.start, kept.sequence)}
        if lengths != {len(self.end)} or len(kept.context) not in (0, len(self.end)) or not len(self.end):
            message = "the columns of kept windows differ in length"
            raise ValueError(message)

    def __len__(self) -> int:
        """The number of windows."""
        return len(self.end)

    def block(self, version: int, cells: str) -> WindowBlock:
        """As a message would bring them to this version, in its element type."""
        kept, n = self.kept, len(self)
        with np.errstate(over="ignore"):
            values = self.values.astype(cells, copy=False)
        return WindowBlock(
            version_id=version,
            rows=n * kept.length,
            inputs=kept.inputs,
            length=kept.length,
            block=values.tobytes(),
            status=kept.status,
            first_row=(np.arange(n, dtype="<i8") * kept.length).tobytes(),
            start_time=kept.start,
            end_time=kept.end,
            sequence=kept.sequence,
            quality=kept.quality,
            refused=(),
            context=kept.context,
            newest=kept.newest,
        )


def pack(block: WindowBlock, wanted: Sequence[int]) -> tuple[bytes, int]:
    """These windows of a block, and how many of them there was room for: none, then the bytes are empty."""
    size = block.length * block.inputs
    wanted = wanted[: MAX_BYTES // (size * CELL_BYTES)]
    if not wanted:
        return b"", 0
    cells = "<f4" if len(block.block) == block.rows * block.inputs * 4 else "<f8"
    shape = (block.rows, block.inputs)
    status = np.frombuffer(block.status, dtype="<u4")
    status = np.full(shape, status[0], dtype="<u4") if len(status) == 1 else status.reshape(shape)
    first = np.frombuffer(block.first_row, dtype="<i8")[list(wanted)]
    rows = first[:, None] + np.arange(block.length)
    kept = Kept(
        VERSION, cells, block.length, block.inputs,
        np.frombuffer(block.block, dtype=cells).reshape(shape)[rows].tobytes(), status[rows].tobytes(),
        _some(block.start_time, "<i8", wanted), _some(block.end_time, "<i8", wanted),
        _some(block.sequence, "<i8", wanted), _some(block.quality, "<u4", wanted),
        tuple(block.context[index] for index in wanted) if block.context else (), block.newest,
    )  # fmt: skip
    return _packed(kept), len(wanted)


def _some(column: bytes, kind: str, wanted: Sequence[int]) -> bytes:
    return np.frombuffer(column, dtype=kind)[list(wanted)].tobytes()


def _packed(kept: Kept) -> bytes:
    return zstandard.ZstdCompressor(level=3).compress(msgspec.msgpack.encode(kept, enc_hook=str))


_decoder = msgspec.msgpack.Decoder(Kept)


def unpack(body: bytes) -> Windows:
    """What `pack` made. LetterError when it is nothing of ours, or too large."""
    try:
        size = zstandard.get_frame_parameters(body).content_size
        if not 0 < size <= MAX_UNPACKED:
            message = f"the kept windows unpack to {size} bytes: drop the letter"
            raise LetterError(message)
        kept = _decoder.decode(zstandard.ZstdDecompressor().decompress(body, allow_extra_data=False))
        if kept.version != VERSION or kept.cells not in ("<f4", "<f8") or min(kept.length, kept.inputs) < 1:
            message = f"windows of version {kept.version} are kept, this release reads version {VERSION}: upgrade it"
            raise LetterError(message)
        return Windows(kept)
    except (zstandard.ZstdError, msgspec.MsgspecError, RecursionError) as error:
        message = f"the kept windows cannot be read ({error}): drop the letter"
        raise LetterError(message) from error


def misfit(kept: Spec, other: Spec) -> str:
    """Why windows of one version are none of another; empty when they are: the same rows of the same tags."""
    if (kept.kind, kept.step_ns, kept.length) != (other.kind, other.step_ns, other.length):
        return "its windows have another length or another grid"
    mine, others = ([(one.tag, one.resample) for one in spec.inputs] for spec in (kept, other))
    return "" if mine == others else "its inputs are other tags, in another order, or resampled in another way"


def mend(body: bytes, edits: Mapping[int, Sequence[Sequence[float | None]]]) -> tuple[bytes, int]:
    """Kept windows with some inputs replaced, and how many cells now differ. LetterError for what does not fit.

    `edits`: end of a window (ns) → its rows of values, (length, inputs); None leaves a cell as it is. A replaced cell
    has the status Uncertain_SubstituteValue: manually overwritten (IEC 62541-4, table 178).
    """
    windows = unpack(body)
    values, status, quality = windows.values.copy(), windows.status.copy(), windows.quality.copy()
    places = {int(end): place for place, end in enumerate(windows.end)}
    changed = 0
    for end, rows in edits.items():
        if end not in places:
            message = f"no window of this letter ends at {times.rfc3339(end)}: see its inputs"
            raise LetterError(message)
        given = _numbers(rows, windows.kept)
        place = places[end]
        new = ~np.isnan(given) & (given.astype(values.dtype) != values[place])
        values[place][new], status[place][new] = given[new], Status.UNCERTAIN_SUBSTITUTE
        if new.any():
            # What was wrong with the replaced cells is gone: the window is as good as its worst cell now.
            quality[place] = status[place].max()
        changed += int(new.sum())
    return _packed(msgspec.structs.replace(
        windows.kept, values=values.tobytes(), status=status.tobytes(), quality=quality.tobytes()
    )), changed


def _numbers(rows: Sequence[Sequence[float | None]], kept: Kept) -> NDArray[np.float64]:
    """Shape (length, inputs); NaN stays as it is."""
    if len(rows) != kept.length or any(len(row) != kept.inputs for row in rows):
        message = f"a window has {kept.length} rows of {kept.inputs} values each: give all, null where unchanged"
        raise LetterError(message)
    found = np.array([[np.nan if one is None else one for one in row] for row in rows], dtype=np.float64)
    if np.isinf(found).any():
        message = "an input must be a finite number, or null to leave it as it is"
        raise LetterError(message)
    return found


def inputs(windows: Windows) -> Iterator[dict[str, Any]]:
    """Each window as JSON holds it: `end`, and `values` as rows of one number an input, null where there is none."""
    for place, end in enumerate(windows.end):
        rows = windows.values[place].astype(np.float64).tolist()
        yield {
            "end": times.rfc3339(int(end)),
            "values": [[one if np.isfinite(one) else None for one in row] for row in rows],
        }


def summary(windows: Windows) -> list[dict[str, Any]]:
    """Per input, over all kept windows: smallest, largest and mean value, and how many cells are not Good."""
    made = []
    for column in range(windows.kept.inputs):
        values = windows.values[:, :, column].astype(np.float64)
        finite = values[np.isfinite(values)]
        made.append({
            "smallest": float(finite.min()) if finite.size else None,
            "largest": float(finite.max()) if finite.size else None,
            "mean": float(finite.mean()) if finite.size else None,
            "cells": int(values.size),
            "not_good": int((windows.status[:, :, column] >> 30 != 0).sum()),
            "not_finite": int(values.size - finite.size),
        })
    return made
