"""Tables of tags: as any Excel writes them, and nothing in them is ever run."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import openpyxl
import pytest

from app.config import sheets
from app.config.sheets import SheetError
from app.config.tag_rows import attributes, cells_of, entry_of
from app.plant.schemas import TagEntry

HEADER = "name,connection,address,unit\n"


def rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Line and cells of each row; nothing is wrong with any."""
    found = sheets.read(path)
    assert [row.problem for row in found if row.problem] == []
    return [(row.line, row.cells) for row in found]


@pytest.mark.parametrize(
    "raw",
    [
        "name,connection,address,unit\nT1,plc,料位#/v,°C\n".encode(),
        "name,connection,address,unit\nT1,plc,料位#/v,°C\n".encode("utf-8-sig"),
        "name;connection;address;unit\r\nT1;plc;料位#/v;°C\r\n".encode("gb18030"),
        "名称;连接;地址;单位\r\nT1;plc;料位#/v;°C\r\n".encode("gbk"),
        "name\tconnection\taddress\tunit\r\nT1\tplc\t料位#/v\t°C\r\n".encode("utf-16"),
        'sep=;\nNAME;"connection";address;unit\nT1;plc;料位#/v;°C\n'.encode(),
        "\n,,,\nname,connection,address,unit\n,,,\nT1,plc,料位#/v,°C\n".encode(),
    ],
)
def test_a_csv_of_any_excel_is_read(raw: bytes, tmp_path: Path) -> None:
    """UTF-8 with and without its mark, GBK, UTF-16; comma, semicolon, tab; Chinese headings; empty rows."""
    file = tmp_path / "tags.csv"
    file.write_bytes(raw)
    ((_, cells),) = rows(file)
    assert cells == {"name": "T1", "connection": "plc", "address": "料位#/v", "unit": "°C"}


def test_lines_are_those_of_the_file(tmp_path: Path) -> None:
    """A cell over several lines and empty rows do not shift the numbers."""
    file = tmp_path / "tags.csv"
    file.write_text(HEADER + 'A,plc,"x\ny",\n\nB,plc,z,\nC,plc,z,,,too many\n')
    assert [(row.line, row.cells["name"], bool(row.problem)) for row in sheets.read(file)] == [
        (2, "A", False),
        (5, "B", False),
        (6, "C", True),
    ]


@pytest.mark.parametrize(
    ("name", "raw", "said"),
    [
        ("x.csv", b"name,adress\nA,b\n", "unknown: adress"),
        ("x.csv", b"name,unit\nA,b\n", "name and address are needed"),
        ("x.csv", b"name,address,name\nA,b,c\n", "each once"),
        ("x.csv", b"", "do not fit"),
        ("x.csv", HEADER.encode() + b"A\n\xff\xff,plc,x,\n", "line 3 is neither UTF-8"),
        ("x.csv", HEADER.encode() + b'A,plc,"x\n', "line 2 is no CSV"),
        ("x.xlsx", b"name,address\n", "must be saved as .xlsx"),
        ("x.yaml", b"tags: 1\n", "no list"),
        ("none.csv", None, "cannot be read"),
    ],
)
def test_what_is_no_table_is_said(name: str, raw: bytes | None, said: str, tmp_path: Path) -> None:
    """One sentence that says what to do."""
    if raw is not None:
        (tmp_path / name).write_bytes(raw)
    with pytest.raises(SheetError, match=said):
        sheets.read(tmp_path / name)


TAGS = [
    TagEntry(name="=cmd|' c calc'!A1", connection="plc", address="i=1", description="+1", unit="-"),
    TagEntry(name="料位", connection="plc", address="'=x", datatype="integer", options={"queue_size": 3}),
    TagEntry(name="001", connection="plc", address="a,b;c\td", description='"quoted"\nline', place="a/b"),
]


@pytest.mark.parametrize("suffix", ["csv", "xlsx", "yaml"])
def test_what_is_written_is_read_again(suffix: str, tmp_path: Path) -> None:
    """Formulas, Chinese, leading zeros, quotes, options: the same tags come back."""
    file = tmp_path / f"tags.{suffix}"
    sheets.write(file, [cells_of(one) for one in TAGS], [attributes(one) for one in TAGS])
    assert [entry_of(row) for row in sheets.read(file)] == TAGS


def test_no_spreadsheet_runs_what_is_written(tmp_path: Path) -> None:
    """No cell of a CSV begins as a formula does; every cell of a workbook is text."""
    written = [cells_of(one) for one in TAGS]
    sheets.write(tmp_path / "tags.csv", written, [])
    text = (tmp_path / "tags.csv").read_text(encoding="utf-8-sig")
    assert "'=cmd" in text
    assert "'+1" in text
    assert not any(cell[:1] in "=+-@" for line in text.splitlines() for cell in line.split(",") if cell)
    sheets.write(tmp_path / "tags.xlsx", written, [])
    sheet = openpyxl.load_workbook(tmp_path / "tags.xlsx")["tags"]
    cells = [cell for row in sheet.iter_rows() for cell in row if cell.value]
    assert {cell.data_type for cell in cells} == {"s"}
    assert all(cell.quotePrefix for cell in cells)


def test_a_formula_has_no_value(tmp_path: Path) -> None:
    """A formula in a workbook is refused with its place: it is never computed, and its old value not trusted."""
    book = openpyxl.Workbook()
    sheet = book.create_sheet("tags")
    sheet.append(["name", "connection", "address"])
    sheet.append(["A", "plc", "=1+1"])
    book.save(tmp_path / "x.xlsx")
    with pytest.raises(SheetError, match="line 2, C2 is a formula"):
        sheets.read(tmp_path / "x.xlsx")


def test_cells_that_are_no_text(tmp_path: Path) -> None:
    """Numbers and truth in a workbook are read as they are shown; the sheet named tags is taken, wherever it is."""
    book = openpyxl.Workbook()
    book.create_sheet("something else").append(["x"])
    sheet = book.create_sheet("tags")
    sheet.append(["name", "connection", "address", "unit", "description"])
    sheet.append([101, "plc", 1.5, True, 2.0])
    book.save(tmp_path / "x.xlsx")
    assert rows(tmp_path / "x.xlsx") == [
        (2, {"name": "101", "connection": "plc", "address": "1.5", "unit": "true", "description": "2"})
    ]


@pytest.mark.parametrize("parts", [{"xl/a.xml": b"\0" * 20_000_000}, {f"p{n}": b"" for n in range(3000)}])
def test_a_bomb_is_not_unpacked(parts: dict[str, bytes], tmp_path: Path) -> None:
    """What unpacks to far more than it is, or to very many parts, is refused by its table of contents."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    (tmp_path / "x.xlsx").write_bytes(made.getvalue())
    with pytest.raises(SheetError, match="too much"):
        sheets.read(tmp_path / "x.xlsx")


def test_a_zip_that_is_no_workbook(tmp_path: Path) -> None:
    """A sentence, whatever the library stumbles over."""
    with zipfile.ZipFile(tmp_path / "x.xlsx", "w") as archive:
        archive.writestr("[Content_Types].xml", "<x/>")
    with pytest.raises(SheetError, match="no XLSX"):
        sheets.read(tmp_path / "x.xlsx")
