"""Replay of a recording (CSV or NPZ) as a connection: the same readings, in the same order, and then an end."""

from __future__ import annotations

import json
import math
import re
import time
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from connectors import NO_TIME, Batch, ConnectionConfig, EndOfInput, NotConnectedError, Refusal, RefusedError, Source

if TYPE_CHECKING:
    from collections.abc import Sequence

SCHEMES: Final[tuple[str, ...]] = ("replay", "file")
HEADER: Final = "tag,source_time_ns,value,status"
LONGEST_LINE: Final = 1_048_576
EXACT: Final = 2**53
NPZ_COLUMNS: Final[dict[str, str]] = {"tag": "i", "source_time": "i", "value": "f", "status": "iu"}
"""Arrays of an NPZ recording and the kinds of their element types; `names` says what the numbers in `tag` mean."""
LARGEST_NPZ: Final = 2 * 1024**3
LONGEST_NAME: Final = 4096
LARGEST_STATUS: Final = 0xFFFFFFFF
INT64: Final = np.iinfo(np.int64)
WHOLE: Final = re.compile(r"-?\d{1,20}")


class Options(BaseModel):
    """CSV headed `tag,source_time_ns,value,status`, or NPZ of `names, tag, source_time, value, status`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Path
    rows_per_batch: int = Field(default=1000, ge=1, le=20_000)


class TagOptions(BaseModel):
    """A tag of a recording has no options."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a recording."""

    name: str
    source_time: int
    value: object
    status: int


@dataclass(frozen=True, slots=True)
class Broken:
    """A line that is no reading."""

    name: str
    detail: str
    text: str


def check_address(address: str) -> str | None:
    """What is wrong with an address, or None: it is the name in the recording's `tag` column."""
    if not address or len(address) > LONGEST_NAME or address != address.strip():
        return f"{address!r} is not a name as it stands in the recording's `tag` column"
    return None


def source(config: ConnectionConfig) -> Source:
    """A source that replays the recording; nothing is opened yet."""
    return ReplaySource(config)


class ReplaySource:
    """Reads a recording in batches; those of tags not configured are passed over."""

    def __init__(self, config: ConnectionConfig) -> None:
        """Nothing is opened yet."""
        self._options = Options.model_validate(config.options)
        self._ids: Mapping[str, int] = {tag.address: tag.id for tag in config.tags}
        self._revision = config.revision
        self._rows: Iterator[Row | Broken] | None = None

    async def connect(self) -> None:
        """Open from the beginning. NotConnectedError if the file is not there, RefusedError if it is no recording."""
        await self.close()
        try:
            opened = _npz(self._options.path) if self._options.path.suffix == ".npz" else _csv(self._options.path)
            first = next(opened, None)
        except OSError as error:
            message = f"{self._options.path}: {error.strerror or error}"
            raise NotConnectedError(message) from error
        self._rows = _again(first, opened)

    async def read(self) -> Batch:
        """The next rows. EndOfInput after the last, NotConnectedError before `connect`."""
        if self._rows is None:
            message = "not connected"
            raise NotConnectedError(message)
        rows = list(islice(self._rows, self._options.rows_per_batch))
        if not rows:
            message = f"{self._options.path} ends here"
            raise EndOfInput(message)
        return self._batch(rows)

    def _batch(self, rows: Sequence[Row | Broken]) -> Batch:
        now = time.time_ns()
        taken = [row for row in rows if isinstance(row, Row) and row.name in self._ids]
        refused = tuple(
            Refusal(row.name, "broken_row", row.detail, row.text.encode(errors="replace")[:256])
            for row in rows
            if isinstance(row, Broken)
        )
        values = [row.value if isinstance(row.value, float) else math.nan for row in taken]
        others = {
            n: row.value for n, row in enumerate(taken) if row.value is not None and not isinstance(row.value, float)
        }
        return Batch(
            np.array([self._ids[row.name] for row in taken], dtype=np.int64),
            np.array([row.source_time for row in taken], dtype=np.int64),
            np.array(values, dtype=np.float64),
            others,
            np.array([row.status for row in taken], dtype=np.uint32),
            now,
            now,
            self._revision,
            refused,
        )

    async def rebind(self, config: ConnectionConfig) -> bool:
        """See `connectors.Rebindable`. From the next row on: to begin again would tell all of it twice."""
        self._ids = {tag.address: tag.id for tag in config.tags}
        self._revision = config.revision
        return True

    async def close(self) -> None:
        """Let go of the file. Safe to call twice."""
        self._rows = None


def _again(first: Row | Broken | None, rest: Iterator[Row | Broken]) -> Iterator[Row | Broken]:
    if first is not None:
        yield first
    yield from rest


def _csv(path: Path) -> Iterator[Row | Broken]:
    with path.open(encoding="utf-8", errors="replace") as file:
        if file.readline(LONGEST_LINE).strip() != HEADER:
            message = f"{path} is not a recording: its first line is not {HEADER}"
            raise RefusedError(message)
        while line := file.readline(LONGEST_LINE):
            if line.strip():
                yield _row(line.rstrip("\r\n"))


def _row(line: str) -> Row | Broken:
    """One line, split at its first two commas and its last, as a quoted string may hold some; the value is JSON."""
    name, _, rest = line.partition(",")
    moment, _, rest = rest.partition(",")
    value, comma, status = rest.rpartition(",")
    if not comma:
        return Broken(name, f"fewer than {HEADER.count(',') + 1} fields", line)
    if not (WHOLE.fullmatch(status) and 0 <= int(status) <= LARGEST_STATUS):
        return Broken(name, f"the status {status[:40]!r} is not a StatusCode", line)
    if moment and not WHOLE.fullmatch(moment):
        return Broken(name, f"the time {moment[:40]!r} is not in ns since 1970", line)
    when = int(moment) if moment else NO_TIME
    return Row(name, when if INT64.min < when <= INT64.max else NO_TIME, _value(value), int(status))


def _value(text: str) -> object:
    """A number or boolean as float, an integer beyond 2**53 as int, else a string or structure; None for nothing."""
    if not text:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if isinstance(value, int) and not -EXACT <= value <= EXACT:
        return value
    if isinstance(value, int | float):
        return float(value) if math.isfinite(value) else None
    return value


def _npz(path: Path) -> Iterator[Row | Broken]:
    names, columns = _arrays(path)
    times, numbers, status = (columns[key].tolist() for key in ("source_time", "value", "status"))
    for tag, when, number, code in zip(columns["tag"].tolist(), times, numbers, status, strict=True):
        if not 0 <= tag < len(names):
            yield Broken(str(tag), f"there are {len(names)} names", "")
        elif not 0 <= code <= LARGEST_STATUS:
            yield Broken(names[tag], f"the status {code} is not a StatusCode", "")
        else:
            yield Row(names[tag], when, number if math.isfinite(number) else None, code)


def _arrays(path: Path) -> tuple[list[str], dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]]:
    if path.stat().st_size > LARGEST_NPZ:
        message = f"{path} is larger than {LARGEST_NPZ} bytes"
        raise RefusedError(message)
    try:
        with np.load(path, allow_pickle=False) as archive:
            columns = {key: archive[key] for key in NPZ_COLUMNS}
            names = [str(name) for name in archive["names"].tolist()]
    except (ValueError, KeyError, zipfile.BadZipFile) as error:
        message = f"{path} is not a recording: {error}"
        raise RefusedError(message) from error
    kinds_right = all(columns[key].dtype.kind in kinds and columns[key].ndim == 1 for key, kinds in NPZ_COLUMNS.items())
    if not kinds_right or len({len(column) for column in columns.values()}) != 1:
        message = f"{path} is not a recording: `tag`, `source_time`, `value`, `status` are columns of one length"
        raise RefusedError(message)
    return names, columns
