"""Files of readings: CSV in whatever encoding a historian wrote it, and Parquet; read and written piece by piece."""

from __future__ import annotations

import codecs
import csv
import importlib
import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Final, Protocol

import msgspec
import numpy as np

from app.config.sheets import escaped, unescaped
from app.durable import sync_folder
from app.plain import plain
from app.times import NANOS, rfc3339

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from app.points import Points
    from app.series import Series

POINT: Final = ("thinned_s", "thinned_minimum", "thinned_maximum", "thinned_count")
"""Of a point in the place of readings: seconds of its interval, least, greatest and number of usable readings in it;
`time` is where the interval begins, `value` the mean, `status` that of the mean. Of a reading they are empty."""
COLUMNS: Final = ("tag", "time", "value", "type", "status", "backfilled", *POINT)
"""Of what we write. `type` is number, text, or json for anything else."""
SUFFIXES: Final = (".csv", ".parquet")
UTF_16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
DELIMITERS: Final = (",", ";", "\t")
CHUNK: Final = 1 << 20
MAX_LINE: Final = 1 << 20
"""Characters of a line, and of a cell: a longer one is refused before it is taken apart."""
ROWS_AT_ONCE: Final = 10_000
NUMBER, TEXT, JSON = "number", "text", "json"


class FileError(Exception):
    """The file cannot be used at all; the message says what to do. `text` has names in braces for `values`."""

    def __init__(self, text: str, **values: object) -> None:
        """The message is the text with the values filled in."""
        super().__init__(text.format(**values))
        self.text, self.values = text, values


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it stands in a file."""

    line: int
    cells: dict[str, Any]
    """By the column's own name; texts of a CSV, typed values of a Parquet file."""


class Writer(Protocol):
    """Takes readings, tag after tag."""

    def add(self, tag: str, series: Series) -> None:
        """Some readings of one tag."""

    def add_points(self, tag: str, step_ns: int, points: Points) -> None:
        """Some points of one tag and length of interval."""


@contextmanager
def writing(path: Path) -> Iterator[Writer]:
    """A file to be, by its suffix; it has its name only when it is whole. FileError, OSError."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        message = "{file} ends with none of {suffixes}"
        raise FileError(message, file=path, suffixes=", ".join(SUFFIXES))
    draft = path.with_name(f"{path.name}.part")
    try:
        if suffix == ".csv":
            # With the mark Excel knows that it is UTF-8, in China too.
            with draft.open("w", encoding="utf-8-sig", newline="") as file:
                yield _Csv(file)
        else:
            made = _Parquet(draft)
            try:
                yield made
            finally:
                made.close()
        with draft.open("rb") as whole:
            os.fsync(whole.fileno())
        draft.replace(path)
        sync_folder(path.parent)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def _typed(value: object) -> tuple[str, str]:
    """What is no number, as text, and which type it is."""
    return (value, TEXT) if isinstance(value, str) else (msgspec.json.encode(plain(value)).decode(), JSON)


_NO_POINT: Final = ("",) * len(POINT)


class _Csv:
    def __init__(self, file: IO[str]) -> None:
        self._writer = csv.writer(file)
        self._writer.writerow(COLUMNS)

    def add(self, tag: str, series: Series) -> None:
        columns = (series.time, series.values, series.status, series.backfilled)
        for row, (time, number, status, filled) in enumerate(zip(*(c.tolist() for c in columns), strict=True)):
            value, kind = _typed(series.others[row]) if row in series.others else (repr(number), NUMBER)
            value = escaped(value) if kind == TEXT else value
            self._writer.writerow((escaped(tag), rfc3339(time), value, kind, f"0x{status:08X}", "1" if filled else "",
                                   *_NO_POINT))  # fmt: skip

    def add_points(self, tag: str, step_ns: int, points: Points) -> None:
        columns = (points.time, points.mean, points.status(), points.minimum, points.maximum, points.count)
        for time, mean, status, least, greatest, count in zip(*(c.tolist() for c in columns), strict=True):
            value, minimum, maximum = (repr(one) if count else "" for one in (mean, least, greatest))
            self._writer.writerow((escaped(tag), rfc3339(time), value, NUMBER, f"0x{status:08X}", "",
                                   step_ns // NANOS, minimum, maximum, count))  # fmt: skip


class _Parquet:
    def __init__(self, path: Path) -> None:
        self._arrow, self._parquet = _library("pyarrow"), _library("pyarrow.parquet")
        arrow = self._arrow
        self._schema = arrow.schema([
            ("tag", arrow.dictionary(arrow.int32(), arrow.string())),
            ("time", arrow.timestamp("ns", tz="UTC")),
            ("value", arrow.float64()),
            ("text", arrow.string()),
            ("json", arrow.string()),
            ("status", arrow.uint32()),
            ("backfilled", arrow.bool_()),
            *zip(POINT, (arrow.int64(), arrow.float64(), arrow.float64(), arrow.int64()), strict=True),
        ])
        self._writer = self._parquet.ParquetWriter(path, self._schema, compression="zstd")

    def add(self, tag: str, series: Series) -> None:
        arrow, rows = self._arrow, range(len(series))
        typed = {row: _typed(value) for row, value in series.others.items()}
        texts, jsons = (
            [typed[row][0] if typed.get(row, ("", ""))[1] == kind else None for row in rows] for kind in (TEXT, JSON)
        )
        odd = np.isin(np.arange(len(series)), list(series.others))
        self._writer.write_table(arrow.Table.from_arrays(
            [
                self._tags(tag, len(series)), arrow.array(series.time, arrow.timestamp("ns", tz="UTC")),
                arrow.array(series.values, arrow.float64(), mask=odd, from_pandas=False),
                arrow.array(texts, arrow.string()), arrow.array(jsons, arrow.string()),
                arrow.array(series.status), arrow.array(np.ascontiguousarray(series.backfilled)),
                *(arrow.nulls(len(series), self._schema.field(name).type) for name in POINT),
            ],
            schema=self._schema,
        ))  # fmt: skip

    def add_points(self, tag: str, step_ns: int, points: Points) -> None:
        arrow, count = self._arrow, len(points)
        empty = np.asarray(points.count == 0)
        mean, least, greatest = (
            arrow.array(one, arrow.float64(), mask=empty) for one in (points.mean, points.minimum, points.maximum)
        )
        self._writer.write_table(arrow.Table.from_arrays(
            [
                self._tags(tag, count), arrow.array(points.time, arrow.timestamp("ns", tz="UTC")), mean,
                arrow.nulls(count, arrow.string()), arrow.nulls(count, arrow.string()), arrow.array(points.status()),
                arrow.array(np.zeros(count, np.bool_)), arrow.array(np.full(count, step_ns // NANOS)), least, greatest,
                arrow.array(points.count),
            ],
            schema=self._schema,
        ))  # fmt: skip

    def _tags(self, tag: str, count: int) -> Any:  # noqa: ANN401 - without types
        return self._arrow.DictionaryArray.from_arrays(
            self._arrow.array(np.zeros(count, np.int32)), self._arrow.array([tag])
        )

    def close(self) -> None:
        self._writer.close()


def _library(name: str) -> Any:  # noqa: ANN401 - a module without types
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        message = "Parquet needs the package {package}: pip install 'headrace[parquet]', or use CSV"
        raise FileError(message, package="pyarrow") from error


def read(path: Path) -> tuple[Sequence[str], Iterator[Row]]:
    """The names of its columns, and its rows one after the other. FileError, also while rows are read; OSError."""
    return _parquet_rows(path) if path.suffix.lower() == ".parquet" else _csv_rows(path)


def _parquet_rows(path: Path) -> tuple[Sequence[str], Iterator[Row]]:
    arrow, parquet = _library("pyarrow"), _library("pyarrow.parquet")
    try:
        file = parquet.ParquetFile(path)
    except (arrow.ArrowException, OSError) as error:
        message = "{file} is no Parquet file: {why}"
        raise FileError(message, file=path, why=error) from error
    return list(file.schema_arrow.names), _of_parquet(file, path, arrow)


def _of_parquet(file: Any, path: Path, arrow: Any) -> Iterator[Row]:  # noqa: ANN401 - without types
    line = 0
    try:
        for part in file.iter_batches(batch_size=ROWS_AT_ONCE):
            columns = {name: _plain_column(part.column(name), arrow) for name in part.schema.names}
            for at in range(part.num_rows):
                line += 1
                yield Row(line, {name: values[at] for name, values in columns.items() if values[at] is not None})
    except (arrow.ArrowException, OSError) as error:
        message = "{file} breaks off after row {line}: {why}"
        raise FileError(message, file=path, line=line, why=error) from error
    finally:
        file.close()


def _plain_column(column: Any, arrow: Any) -> list[Any]:  # noqa: ANN401 - without types
    """Times as whole ns, or as texts where they have no zone; everything else as it is."""
    if arrow.types.is_timestamp(column.type):
        if column.type.tz is None:
            return [None if one is None else str(one) for one in column.cast(arrow.string()).to_pylist()]
        found: list[Any] = column.cast(arrow.timestamp("ns", tz="UTC")).cast(arrow.int64()).to_pylist()
        return found
    values: list[Any] = column.to_pylist()
    return values


def _csv_rows(path: Path) -> tuple[Sequence[str], Iterator[Row]]:
    lines = _lines(path, _encoding(path))
    header = next(lines, (1, ""))[1]
    delimiter = max(DELIMITERS, key=header.count)
    names = [name.strip() for name in next(csv.reader([header], delimiter=delimiter), [])]
    return names, _of_csv(names, lines, delimiter)


def _of_csv(names: Sequence[str], lines: Iterator[tuple[int, str]], delimiter: str) -> Iterator[Row]:
    """A cell may not hold the end of a line: one that is not closed would take the rest of the file with it."""
    for line, text in lines:
        if not text.strip():
            continue
        try:
            cells = next(csv.reader([text], delimiter=delimiter, strict=True))
        except csv.Error as error:
            yield Row(line, {"": f"no CSV: {error}"})
            continue
        if len(cells) > len(names) and any(cell.strip() for cell in cells[len(names) :]):
            yield Row(line, {"": "more cells than columns"})
            continue
        stripped = zip(names, (cell.strip() for cell in cells), strict=False)
        yield Row(line, {name: unescaped(cell) for name, cell in stripped if cell})


def _lines(path: Path, encoding: str) -> Iterator[tuple[int, str]]:
    with path.open(encoding=encoding) as file:
        number = 0
        while text := file.readline(MAX_LINE + 1):
            number += 1
            if len(text) > MAX_LINE:
                message = "line {line} is longer than {most} characters"
                raise FileError(message, line=number, most=MAX_LINE)
            yield number, text.rstrip("\r\n")


def _encoding(path: Path) -> str:
    """UTF-8 where all of it is, else GB 18030; UTF-16 by its mark. FileError."""
    with path.open("rb") as file:
        if file.read(2) in UTF_16:
            return "utf-16"
    for encoding in ("utf-8-sig", "gb18030"):
        if _decodes(path, encoding):
            return encoding
    message = "{file} is neither UTF-8 nor GB 18030 nor UTF-16: save it as CSV UTF-8"
    raise FileError(message, file=path)


def _decodes(path: Path, encoding: str) -> bool:
    decoder = codecs.getincrementaldecoder(encoding)()
    with path.open("rb") as file:
        try:
            while part := file.read(CHUNK):
                decoder.decode(part)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
    return True
