"""XLSX files as rows of text (ECMA-376), with `openpyxl`: no formula, macro or link is followed, sizes are bounded."""

from __future__ import annotations

import io
import zipfile
from datetime import date, datetime, time
from typing import TYPE_CHECKING, Any, Final
from xml.etree.ElementTree import ParseError

import openpyxl
from openpyxl.cell import WriteOnlyCell
from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE
from openpyxl.styles import Font
from openpyxl.utils.exceptions import InvalidFileException

from app.config.sheets import MAX_ROWS, SheetError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SHEET: Final = "tags"
MAX_PARTS: Final = 2000
MAX_UNPACKED: Final = 256 * 2**20
MAX_RATIO: Final = 100
SMALL: Final = 8 * 2**20
"""Below this nobody is hurt by how well it was packed."""
MAX_COLUMNS: Final = 32
BROKEN: Final = (
    InvalidFileException,
    zipfile.BadZipFile,
    ParseError,
    KeyError,
    ValueError,
    TypeError,
    IndexError,
    AttributeError,
    EOFError,
    OSError,
    NotImplementedError,
)
"""What openpyxl raises for files that are not what they seem."""


def lines(raw: bytes) -> Iterator[tuple[int, list[str]]]:
    """Row numbers and cells of the sheet `tags`, or of the first. SheetError, also for a formula."""
    _check_size(raw)
    try:
        book = openpyxl.load_workbook(io.BytesIO(raw), read_only=True, keep_links=False, keep_vba=False)
        sheet = book[SHEET] if SHEET in book.sheetnames else book.worksheets[0]
        for number, row in enumerate(sheet.iter_rows(max_row=MAX_ROWS + 2, max_col=MAX_COLUMNS), 1):
            yield number, _cells(number, row)
    except BROKEN as error:
        message = f"this is no XLSX file that can be read: {type(error).__name__}: {str(error)[:200]}"
        raise SheetError(message) from error


def _check_size(raw: bytes) -> None:
    """What the parts unpack to, as the archive says; what it says is all that is ever unpacked of a part."""
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            parts = archive.infolist()
    except zipfile.BadZipFile as error:
        message = "this is no XLSX file: an .xls of old Excel must be saved as .xlsx"
        raise SheetError(message) from error
    total = sum(part.file_size for part in parts)
    if len(parts) > MAX_PARTS or total > MAX_UNPACKED or (total > SMALL and total > MAX_RATIO * len(raw)):
        message = f"the file unpacks to {total} bytes in {len(parts)} parts, which is too much for a table of tags"
        raise SheetError(message)


def _cells(number: int, row: Sequence[Any]) -> list[str]:
    for cell in row:
        if cell.data_type == "f":
            message = f"line {number}, {cell.coordinate} is a formula, which is never computed: paste its value instead"
            raise SheetError(message)
    return [_text(cell.value) for cell in row]


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    return value.isoformat() if isinstance(value, datetime | date | time) else str(value)


def made(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> bytes:
    """A workbook with one sheet, every cell of it text."""
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet(SHEET)
    sheet.freeze_panes = "A2"
    sheet.append([_cell(sheet, column, bold=True) for column in columns])
    for row in rows:
        sheet.append([_cell(sheet, cell) for cell in row])
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def _cell(sheet: Any, text: str, *, bold: bool = False) -> Any:  # noqa: ANN401 - openpyxl's own types
    """Text, even where it looks like a formula: typed and marked so."""
    cell = WriteOnlyCell(sheet, value=ILLEGAL_CHARACTERS_RE.sub(" ", text))
    cell.data_type = "s"
    cell.quotePrefix = True
    if bold:
        cell.font = Font(bold=True)
    return cell
