"""Tables of tags in files: CSV as any Excel writes it, XLSX, YAML; each row with its line, nothing ever computed."""

from __future__ import annotations

import csv
import importlib
import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
import yaml

from app.config.document import DocumentError
from app.config.document import read as read_document

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

COLUMNS: Final = ("name", "connection", "address", "datatype", "unit", "place", "description", "options", "history")
NEEDED: Final = frozenset({"name", "address"})
ALIASES: Final = {
    "名称": "name",
    "点位": "name",
    "连接": "connection",
    "地址": "address",
    "数据类型": "datatype",
    "类型": "datatype",
    "单位": "unit",
    "位置": "place",
    "描述": "description",
    "说明": "description",
    "选项": "options",
    "历史": "history",
    "归档": "history",
}
YAML: Final = (".yaml", ".yml")
SUFFIXES: Final = (".csv", ".xlsx", *YAML)
MAX_BYTES: Final = 64 * 2**20
MAX_ROWS: Final = 250_000
DELIMITERS: Final = (",", ";", "\t")
ESCAPED: Final = re.compile(r"'*[=+\-@\t\r]")
"""How a cell begins that a spreadsheet would run; an apostrophe before it keeps it text."""
TOO_MANY_CELLS: Final = "there are more cells than columns: put quotes around a cell with a comma"
UTF_16: Final = (b"\xff\xfe", b"\xfe\xff")


class SheetError(Exception):
    """A file that is no table of tags at all: what is wrong, and what to do."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row that is not empty."""

    line: int
    cells: dict[str, str]
    """Column to text, without empty cells."""
    columns: frozenset[str]
    """What the table speaks of, in this row or not."""
    problem: str = ""
    """What is wrong with the row as a row."""


def read(path: Path) -> list[Row]:
    """Every row of a CSV, XLSX or YAML file. SheetError when it cannot be read."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror}"
        raise SheetError(message) from error
    if len(raw) > MAX_BYTES:
        message = f"{path} is larger than {MAX_BYTES} bytes"
        raise SheetError(message)
    if path.suffix.lower() in YAML:
        return list(_entries(path))
    lines = _workbooks().lines(raw) if path.suffix.lower() == ".xlsx" else _csv_lines(raw)
    return list(_rows(path, lines))


def write(path: Path, rows: Sequence[Mapping[str, str]], tags: Sequence[Mapping[str, Any]]) -> None:
    """A table as CSV or XLSX, or the tags themselves as the section of a plant file. SheetError, OSError."""
    suffix = path.suffix.lower()
    if suffix == ".csv":
        # With the mark Excel knows that it is UTF-8, in China too.
        path.write_bytes(_as_csv(rows).encode("utf-8-sig"))
    elif suffix == ".xlsx":
        path.write_bytes(_workbooks().made(COLUMNS, [[row.get(c, "") for c in COLUMNS] for row in rows]))
    elif suffix in YAML:
        path.write_text(as_yaml(tags), encoding="utf-8")
    else:
        message = f"{path} ends with none of {', '.join(SUFFIXES)}"
        raise SheetError(message)


def as_yaml(tags: Sequence[Mapping[str, Any]]) -> str:
    """The section `tags` of a plant file, a line for each."""
    return "tags:\n" + "".join(f"  - {flow(tag)}\n" for tag in tags)


def flow(value: object) -> str:
    """A value as YAML on one line."""
    said = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, sort_keys=False, width=10**9)
    return said.removesuffix("\n").removesuffix("\n...")


def escaped(cell: str) -> str:
    """A cell that no spreadsheet runs."""
    return f"'{cell}" if ESCAPED.match(cell) else cell


def unescaped(cell: str) -> str:
    """What `escaped` was given."""
    return cell[1:] if cell.startswith("'") and ESCAPED.match(cell) else cell


def _workbooks() -> Any:  # noqa: ANN401 - a module
    """The reader of XLSX, which needs a library of its own."""
    try:
        return importlib.import_module("app.config.workbooks")
    except ModuleNotFoundError as error:
        message = f"XLSX needs the package {error.name!r}: pip install 'headrace[xlsx]', or save it as CSV"
        raise SheetError(message) from error


def _as_csv(rows: Sequence[Mapping[str, str]]) -> str:
    made = io.StringIO()
    writer = csv.writer(made)
    writer.writerow(COLUMNS)
    writer.writerows([escaped(row.get(column, "")) for column in COLUMNS] for row in rows)
    return made.getvalue()


def _decoded(raw: bytes) -> str:
    if raw.startswith(UTF_16):
        tried: tuple[str, ...] = ("utf-16",)
    else:
        tried = ("utf-8-sig", "gb18030")
    for charset in tried:
        try:
            return raw.decode(charset)
        except UnicodeDecodeError as error:
            line = raw[: error.start].count(b"\n") + 1
    message = f"line {line} is neither UTF-8 nor GB 18030: save the file as CSV UTF-8"
    raise SheetError(message)


def _csv_lines(raw: bytes) -> Iterator[tuple[int, list[str]]]:
    """Line numbers and cells of a CSV file."""
    text = _decoded(raw)
    first, _, rest = text.partition("\n")
    skipped, delimiter = 0, _delimiter(first)
    if first.strip().lower().startswith("sep=") and len(first.strip()) == len("sep=;"):
        skipped, delimiter, text = 1, first.strip()[-1], rest
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 1 + skipped
    try:
        for cells in reader:
            yield line, [unescaped(cell) for cell in cells]
            line = reader.line_num + 1 + skipped
    except csv.Error as error:
        message = f"line {line} is no CSV: {error}"
        raise SheetError(message) from error


def _delimiter(header: str) -> str:
    """The one that makes most known columns of the header."""
    return max(DELIMITERS, key=lambda one: sum(_column(cell) is not None for cell in header.split(one)))


def _column(cell: str) -> str | None:
    word = cell.strip().strip('"').strip().lower()
    return word if word in COLUMNS else ALIASES.get(word)


def _rows(path: Path, lines: Iterator[tuple[int, list[str]]]) -> Iterator[Row]:
    header = next(((line, cells) for line, cells in lines if any(cells)), (0, []))[1]
    columns = [_column(cell) for cell in header]
    named = {column for column in columns if column is not None}
    unknown = [cell for cell, column in zip(header, columns, strict=True) if column is None and cell.strip()]
    if unknown or not named >= NEEDED or len(named) < sum(column is not None for column in columns):
        what = f"unknown: {', '.join(unknown)[:200]}" if unknown else "name and address are needed, each once"
        message = f"the columns of {path} do not fit ({what}); there are: {', '.join(COLUMNS)}"
        raise SheetError(message)
    for count, (line, cells) in enumerate((line, cells) for line, cells in lines if any(c.strip() for c in cells)):
        if count >= MAX_ROWS:
            message = f"{path} has more than {MAX_ROWS} rows"
            raise SheetError(message)
        found = {c: cell.strip() for c, cell in zip(columns, cells, strict=False) if c is not None and cell.strip()}
        extra = any(cell.strip() for cell in cells[len(columns) :])
        yield Row(line, found, frozenset(named), TOO_MANY_CELLS if extra else "")


def _entries(path: Path) -> Iterator[Row]:
    """The tags of a YAML file, which are written as in a plant file."""
    try:
        document = read_document(path)
    except DocumentError as error:
        raise SheetError(str(error)) from error
    written = document.data.get("tags")
    if not isinstance(written, list):
        message = f"{path} has no list `tags`"
        raise SheetError(message)
    for index, one in enumerate(written):
        line = document.at(("tags", index), "").line
        if not isinstance(one, dict) or not one.keys() <= set(COLUMNS):
            yield Row(line, {}, frozenset(), f"a tag has {', '.join(COLUMNS)} and nothing else")
            continue
        cells = {key: value if isinstance(value, str) else _json(value) for key, value in one.items()}
        yield Row(line, {key: cell for key, cell in cells.items() if cell}, frozenset(COLUMNS))


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
