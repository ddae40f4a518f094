"""Readings leave a box in a file and come into another, each once; what is wrong with a file is said row by row."""

from __future__ import annotations

from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from pyarrow import parquet

from app.exchange import incoming
from app.exchange.files import FileError
from app.exchange.incoming import Target
from app.ledger.service import accounts
from app.readings import service as readings
from app.times import parse_time
from tests.app.history.past import TAGS, Past
from tests.app.works import SECOND, START, Works

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.exchange.incoming import Report
    from app.exchange.rows import Refused

KNOWN = {"t1": Target(1, 1), "t3": Target(3, 1)}
ALL = START - 10_000 * SECOND, START + 10_000 * SECOND
EIGHT = parse_time("2026-11-24T00:00:00Z")
"""Eight in the morning in Shanghai."""


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Past]:
    """A second box with the same tags, and nothing stored."""
    folder = tmp_path / "other"
    folder.mkdir()
    works = Works(f"sqlite:///{folder / 'headrace.db'}", folder)
    yield Past(works)
    works.close()


def bring(past: Past, path: Path, **how: object) -> tuple[Report, list[Refused]]:
    """Import a file."""
    told: list[Refused] = []
    return incoming.run(past.works.engine, path, KNOWN, told.append, **how), told  # type: ignore[arg-type]


def written(path: Path, text: str, encoding: str = "utf-8") -> Path:
    """A file with this text."""
    path.write_text(text, encoding=encoding)
    return path


def values(past: Past, tag: int = 1) -> list[tuple[int, object, int]]:
    """Time, value and status of all there is."""
    return [(time, value, status) for time, value, status, _ in past.read(tag, -(2**62), 2**62)]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_what_one_box_exports_another_imports_to_the_bit(past: Past, other: Past, tmp_path: Path, suffix: str) -> None:
    """Numbers, texts, structures, bad ones, in order; and twice is once."""
    past.random(1, 40)
    past.store([(1, 77 * SECOND + 1, 0.1 + 0.2, 0), (3, 77 * SECOND, {"a": [1, 2.5, None]}, 0x40000000)], 80 * SECOND)
    past.store([(1, 78 * SECOND, float("nan"), 0x80000000), (1, 79 * SECOND, 2**70, 0)], 81 * SECOND)
    past.applied()
    file = tmp_path / f"past.{suffix}"
    count, points = incoming.export(past.works.engine, file, [(1, "t1"), (3, "t3")], *ALL)
    assert points == 0
    assert count == sum(len(past.read(tag, *ALL)) for tag in TAGS)
    report, told = bring(other, file)
    assert (report.stored, report.repeated, told) == (count, 0, [])
    for tag in TAGS:
        assert repr(values(other, tag)) == repr(values(past, tag))
    report, told = bring(other, file)
    assert (report.stored, report.repeated, told) == (0, count, [])
    (account,) = accounts(other.works.engine)
    assert account.balanced
    assert account.stored == count == readings.counts(other.works.engine)[1]


def test_a_part_of_the_past_is_exported_alone(past: Past, tmp_path: Path) -> None:
    """One tag, from inclusive, to exclusive; a file is there whole or not at all."""
    past.store([(1, n * SECOND, float(n), 0) for n in range(10)], 10 * SECOND)
    file = tmp_path / "part.csv"
    assert incoming.export(past.works.engine, file, [(1, "t1")], START + 2 * SECOND, START + 4 * SECOND) == (2, 0)
    assert file.read_text(encoding="utf-8-sig").splitlines()[1:] == [
        "t1,2023-11-14T22:13:22.000000000Z,2.0,number,0x00000000,,,,,",
        "t1,2023-11-14T22:13:23.000000000Z,3.0,number,0x00000000,,,,,",
    ]
    with pytest.raises(FileError, match="none of"):
        incoming.export(past.works.engine, tmp_path / "part.xls", [(1, "t1")], 0, 1)
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize(("encoding", "delimiter"), [("gb18030", ","), ("utf-16", "\t"), ("utf-8-sig", ";")])
def test_files_of_chinese_historians_are_read(past: Past, tmp_path: Path, encoding: str, delimiter: str) -> None:
    """Their encodings, names of columns, times without a zone and words for the quality."""
    rows = [("点位", "时间", "数值", "质量"), ("t1", "2026/11/24 08:00:00.5", "1.5", "优")]
    rows.append(("t1", "2026-11-24 8:00", "2", "坏"))
    file = written(tmp_path / "h.csv", "\r\n".join(delimiter.join(row) for row in rows), encoding)
    report, told = bring(past, file, zone=ZoneInfo("Asia/Shanghai"))
    assert told == []
    assert (report.stored, report.backwards) == (2, 1)
    assert values(past) == [(EIGHT, 2.0, 0x80000000), (EIGHT + SECOND // 2, 1.5, 0)]


def test_a_column_for_each_tag_is_read_and_holes_are_none(past: Past, tmp_path: Path) -> None:
    """As most historians export; an empty cell is no reading."""
    rows = "1764000000,1,\n1764000001,,2.5\n1764000002,3,4\n"
    report, told = bring(past, written(tmp_path / "w.csv", "time,t1,t3\n" + rows))
    assert (report.rows, report.stored, told) == (3, 4, [])
    assert [value for _, value, _ in values(past, 3)] == [2.5, 4.0]


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("1764000000", 1764000000 * SECOND), ("1764000000.25", 1764000000 * SECOND + SECOND // 4),
        ("1764000000123", 1764000000123 * 10**6), ("1764000000123456", 1764000000123456 * 1000),
        ("1764000000123456789", 1764000000123456789), ("2026-11-24T08:00:00+08:00", EIGHT),
        ("2026-11-24 00:00:00,5", EIGHT + SECOND // 2),
    ],
)  # fmt: skip
def test_times_are_read_as_they_are_written(past: Past, tmp_path: Path, text: str, time: int) -> None:
    """Seconds, ms, us and ns by their size; RFC 3339; and a local time in the zone that was given."""
    report, _ = bring(past, written(tmp_path / "t.csv", f"time;tag;value\n{text};t1;1\n"), zone=UTC)
    assert report.stored == 1
    assert values(past)[0][0] == time


def test_every_row_that_is_wrong_is_told_and_the_others_are_stored(past: Past, tmp_path: Path) -> None:
    """By line, tag and reason."""
    file = written(
        tmp_path / "bad.csv",
        "tag,time,value,status\n"
        "nobody,1764000000,1,\nt1,,1,\nt1,yesterday,1,\nt1,2026-11-24 08:00:00,1,\nt1,1764000000,,\n"
        't1,1764000000,1,192\nt1,1764000000,1,fine\nt1,1764000000,"1,\nt1,1764000000,1,0,9\n\nt1,1764000000,1,Good\n',
    )
    report, told = bring(past, file)
    assert [(one.line, one.reason) for one in told] == [
        (2, "unknown_tag"), (3, "no_time"), (4, "bad_time"), (5, "needs_zone"), (6, "bad_value"), (7, "bad_status"),
        (8, "bad_status"), (9, "bad_row"), (10, "bad_row"),
    ]  # fmt: skip
    assert (report.stored, sum(report.refused.values()), report.rows) == (1, 9, 10)
    assert values(past) == [(1764000000 * SECOND, 1.0, 0)]


def test_qualities_of_opc_classic_are_read_where_that_is_said(past: Past, tmp_path: Path) -> None:
    """192 is good, 64 uncertain and 0 bad there; never guessed, since 0 is Good elsewhere."""
    rows = "".join(f"t1,{1764000000 + n},1,{quality}\n" for n, quality in enumerate((192, 216, 64, 0, 24)))
    report, _ = bring(past, written(tmp_path / "da.csv", "tag,time,value,quality\n" + rows), classic=True)
    assert report.stored == 5
    assert [status for _, _, status in values(past)] == [0, 0, 0x40000000, 0x80000000, 0x80000000]


def test_a_trial_stores_nothing(past: Past, tmp_path: Path) -> None:
    """It says what would be."""
    report, _ = bring(past, written(tmp_path / "t.csv", "time,tag,value\n1764000000,t1,1\n"), dry=True)
    assert report.stored == 1
    assert values(past) == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"time,tag,valeu\n", "neither the name"), (b"tag,value\nt1,1\n", "there have to be"),
        (b"time\n1\n", "there have to be"), (b"\xff\x80\x80\xff\xff", "neither UTF-8"),
        (b"time,tag,value\n" + b"x" * 1_100_000, "longer than"),
    ],
)  # fmt: skip
def test_what_is_no_file_of_readings_is_refused(past: Past, tmp_path: Path, content: bytes, said: str) -> None:
    """With what to do."""
    file = tmp_path / "x.csv"
    file.write_bytes(content)
    with pytest.raises(FileError, match=said):
        bring(past, file)


def test_a_foreign_parquet_file_is_read(past: Past, tmp_path: Path) -> None:
    """Times with a zone or without, whole numbers, no status."""
    table = pa.table({
        "timestamp": pa.array([EIGHT // 1000, None], pa.timestamp("us", tz="Asia/Shanghai")),
        "t1": pa.array([7, 8], pa.int64()),
        "t3": pa.array(["open", None]),
    })
    parquet.write_table(table, tmp_path / "f.parquet")
    report, told = bring(past, tmp_path / "f.parquet")
    assert [one.reason for one in told] == ["no_time"]
    assert (values(past), values(past, 3), report.stored) == ([(EIGHT, 7.0, 0)], [(EIGHT, "open", 0)], 2)
    local = pa.table({"time": pa.array([EIGHT // 10**9], pa.timestamp("s")), "t1": [9.5]})
    parquet.write_table(local, tmp_path / "l.parquet")
    assert bring(past, tmp_path / "l.parquet")[1][0].reason == "needs_zone"
    assert bring(past, tmp_path / "l.parquet", zone=UTC)[0].stored == 1
    written(tmp_path / "no.parquet", "text")
    with pytest.raises(FileError, match="no Parquet file"):
        bring(past, tmp_path / "no.parquet")


def test_pages_hold_everything_once_whatever_lies_at_their_edges(past: Past) -> None:
    """Also where more readings have one time than a page holds."""
    past.store([(1, n // 7 * SECOND, float(n), 0) for n in range(60)], SECOND)
    for most in (1, 5, 7, 8, 100):
        found = [v for part in readings.pages(past.works.engine, 1, *ALL, most) for v in part.values.tolist()]
        assert found == [float(n) for n in range(60)]


def test_a_text_that_a_spreadsheet_would_run_comes_back_as_it_was(past: Past, other: Past, tmp_path: Path) -> None:
    """It leaves with an apostrophe before it."""
    past.store([(1, 0, "=1+1", 0), (1, SECOND, "'=x", 0), (1, 2 * SECOND, "plain", 0)], SECOND)
    file = tmp_path / "t.csv"
    incoming.export(past.works.engine, file, [(1, "t1")], *ALL)
    assert ",'=1+1,text," in file.read_text(encoding="utf-8-sig")
    bring(other, file)
    assert [value for _, value, _ in values(other)] == ["=1+1", "'=x", "plain"]
