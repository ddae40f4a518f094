"""Everybody who reads a thinned past is told what a point is: files out and in, REST, and windows computed again."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient
from pyarrow import parquet

from app.backfill.queries import Gone, gone
from app.exchange import incoming
from app.exchange.incoming import Target
from app.readings import service as readings
from app.thinning import queries as thinned
from inference.window import Input, Spec
from tests.app.history.past import Past
from tests.app.thinning.thinned import ALL, MINUTE, NOW, STEPS, newest, put, run_all, store
from tests.app.web.conftest import admin, engine, web
from tests.app.works import SECOND, START, Works

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.exchange.rows import Refused

__all__ = ["admin", "engine", "web"]
BEGIN = START // MINUTE * MINUTE
KNOWN = {"t1": Target(1, 1), "t3": Target(3, 1)}


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Past]:
    """Five minutes of a tag have become points; those of the other are as they came. One database with the API's."""
    works = Works(f"sqlite:///{tmp_path / 'web.db'}", tmp_path)
    past = Past(works)
    put(past, STEPS[:1], 3)
    store(past, 0)
    newest(past)
    run_all(past)
    yield past
    works.close()


def test_a_csv_says_which_rows_are_points(box: Past, tmp_path: Path) -> None:
    """Mean, its status, length of the interval, least, greatest and count; of a reading these cells are empty."""
    file = tmp_path / "past.csv"
    assert incoming.export(box.works.engine, file, [(3, "t3")], *ALL) == (1, 6)
    with file.open(encoding="utf-8-sig", newline="") as opened:
        found = list(csv.DictReader(opened))
    assert [one["thinned_s"] for one in found] == ["", *["60"] * 6]
    points = [part for _, some in thinned.pages(box.works.engine, 3, *ALL) for part in [some]]
    first = found[1]
    assert first["time"] == "2023-11-14T22:13:00.000000000Z"
    assert float(first["value"]) == points[0].mean[0]
    assert (first["status"], first["type"]) == ("0x40A40401", "number")
    assert (float(first["thinned_minimum"]), float(first["thinned_maximum"])) == (0.0, 10.0)
    assert int(first["thinned_count"]) == 40 - 6
    assert {found[0][name] for name in ("thinned_minimum", "thinned_maximum", "thinned_count", "backfilled")} == {""}


def test_a_parquet_file_says_the_same(box: Past, tmp_path: Path) -> None:
    """In columns of their own, null of a reading."""
    file = tmp_path / "past.parquet"
    assert incoming.export(box.works.engine, file, [(1, "t1"), (3, "t3")], *ALL) == (305, 6)
    found = parquet.read_table(file)
    rows = [one for one in found.to_pylist() if one["thinned_s"] is not None]
    assert len(rows) == 6
    assert {one["tag"] for one in rows} == {"t3"}
    assert (rows[1]["thinned_s"], rows[1]["thinned_count"], rows[1]["status"]) == (60, 52, 0x40A40401)
    assert (rows[1]["thinned_minimum"], rows[1]["thinned_maximum"]) == (0.0, 10.0)
    second = readings.trend(box.works.engine, 3, BEGIN + MINUTE, BEGIN + 2 * MINUTE, 1)
    assert rows[1]["value"] == pytest.approx(second.mean[0])


def bring(past: Past, path: Path, **how: Any) -> tuple[incoming.Report, list[Refused]]:  # noqa: ANN401
    """Import a file."""
    told: list[Refused] = []
    return incoming.run(past.works.engine, path, KNOWN, told.append, **how), told


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_point_is_not_imported_as_a_reading(box: Past, tmp_path: Path, suffix: str) -> None:
    """Each is refused with the reason; readings beside them are taken."""
    file = tmp_path / f"past.{suffix}"
    incoming.export(box.works.engine, file, [(3, "t3")], *ALL)
    report, told = bring(box, file)
    assert (report.refused, report.repeated, report.stored) == ({"thinned": 6}, 1, 0)
    assert {(one.tag, one.reason) for one in told} == {("t3", "thinned")}


def test_a_point_of_another_box_is_no_reading_either(box: Past, tmp_path: Path) -> None:
    """Where this box has neither readings nor points of that time."""
    file = tmp_path / "in.csv"
    file.write_text(f"tag,time,value,thinned_s\nt1,{NOW - 5},1,60\nt1,{NOW - 4},2,\n")
    report, told = bring(box, file)
    assert ([(one.line, one.reason) for one in told], report.stored) == ([(2, "thinned")], 1)


def test_what_may_have_become_a_point_is_not_imported_again(box: Past, tmp_path: Path) -> None:
    """Nobody can tell any more whether it was there; what lies beside the intervals is new, and another tag's too."""
    file = tmp_path / "in.csv"
    times = [BEGIN - 1, BEGIN, START + 5 * SECOND, BEGIN + 6 * MINUTE - 1, BEGIN + 6 * MINUTE]
    lines = [f"t3,{time},1" for time in times] + [f"t1,{START},7", f"t1,{START + 1},8"]
    file.write_text("\n".join(["tag,time,value", *lines]))
    report, told = bring(box, file)
    assert [(one.line, one.tag, one.reason) for one in told] == [(n, "t3", "thinned") for n in (3, 4, 5)]
    assert (report.rows, report.refused["thinned"], report.stored) == (7, 3, 4)


def test_an_output_of_a_pipeline_is_refused_as_what_it_is(box: Past, tmp_path: Path) -> None:
    """In a column of tags and as a column of its own."""
    file = tmp_path / "in.csv"
    file.write_text(f"tag,time,value\nwatch.score,{START},1\nt1,{START + 1},8\nnobody,{START},1\n")
    report, told = bring(box, file, outputs={"watch.score"})
    assert [one.reason for one in told] == ["output_of_a_pipeline", "unknown_tag"]
    assert report.stored == 1
    file.write_text(f"time,t1,watch.score\n{START + 2},8,1\n")
    report, told = bring(box, file, outputs={"watch.score"})
    assert ([one.reason for one in told], report.stored) == (["output_of_a_pipeline"], 1)


@pytest.fixture
def asked(box: Past, admin: TestClient) -> TestClient:
    """The API over the thinned past."""
    del box
    return admin


SPAN = {"from": "2023-11-14T22:00:00Z", "to": "2023-11-14T23:00:00Z"}
SAID = {
    "from": "2023-11-14T22:13:00.000000000Z", "to": "2023-11-14T22:19:00.000000000Z", "every_s": 60,
    "aggregates": ["Average", "Minimum", "Maximum", "Count", "WorstQuality"],
}  # fmt: skip


def test_rest_says_where_there_are_points(asked: TestClient) -> None:
    """Readings are those that are left, a trend is made of points, and both say so."""
    page = asked.get("/api/v1/tags/t3/readings", params=SPAN).json()
    assert (page["items"], page["thinned"]) == ([], [SAID])
    assert asked.get("/api/v1/tags/t1/readings", params=SPAN).json()["thinned"] == []
    trend = asked.get("/api/v1/tags/t3/trend", params={**SPAN, "points": 60}).json()
    assert trend["thinned"] == [SAID]
    assert [at for at, count in enumerate(trend["count"]) if count] == list(range(13, 19))
    assert asked.get("/api/v1/tags/t1/trend", params=SPAN).json()["thinned"] == []


def test_rest_has_the_points_page_by_page(asked: TestClient, box: Past) -> None:
    """Each with what it is made of; points of one time stay on one page, also where these are of two lengths."""
    whole = asked.get("/api/v1/tags/t3/points", params=SPAN).json()
    assert whole["next"] is None
    assert [one["time"][11:16] for one in whole["items"]] == [f"22:{minute}" for minute in range(13, 19)]
    assert {key: whole["items"][1][key] for key in ("every_s", "minimum", "maximum", "count", "readings")} == {
        "every_s": 60, "minimum": 0.0, "maximum": 10.0, "count": 52, "readings": 60,
    }  # fmt: skip
    one = whole["items"][1]
    assert (one["status"], one["quality"], one["worst_status"]) == (0x40A40401, "Uncertain", 0x80000000)
    put(box, [[30, 180]], 3)
    run_all(box)
    put(box, STEPS[:1], 3)
    store(box, BEGIN - START + 5 * MINUTE, 60)
    run_all(box)
    found, start = [], SPAN["from"]
    while start:
        page = asked.get("/api/v1/tags/t3/points", params={**SPAN, "from": start, "limit": 1}).json()
        found += [(one["time"][14:16], one["every_s"]) for one in page["items"]]
        start = page["next"]
    assert found == [("12", 180), ("15", 180), ("18", 60), ("18", 180)]
    assert asked.get("/api/v1/tags/nobody/points").status_code == 404


def test_rest_says_what_has_left_and_how_it_is_kept(asked: TestClient) -> None:
    """How many readings have become points, and every class."""
    kinds = {one["kind"]: one for one in asked.get("/api/v1/retention").json()}
    assert kinds["thinned"] == {"kind": "thinned", "keep_days": None, "removed": 300, "oldest": None}
    assert kinds["points"]["oldest"] == SAID["from"]
    assert asked.get("/api/v1/history/classes").json() == [{
        "name": "process", "keep_days": None, "priority": 3, "thin": [{"after_days": 30.0, "every_s": 60}], "tags": 1,
    }]  # fmt: skip


def test_points_are_no_readings(box: Past) -> None:
    """Neither for who reads all that is stored, nor for who looks for what was in force."""
    stored = [one for one in readings.everything(box.works.engine) if 3 in one.columns[0]]
    assert [one.time.tolist() for one in stored] == [[NOW]]
    assert list(readings.newest_chunks(box.works.engine, [3], NOW - 1)) == []
    assert list(readings.between(box.works.engine, [1], START, START + 300 * SECOND, [3])) == []


def test_what_was_in_force_is_not_known_before_the_next_reading(box: Past) -> None:
    """A window that begins after the points needs what is in them all the same; one that ends before them does not."""
    spec = Spec("grid", (Input(3, 1),), SECOND, length=4, hop=1, lateness_ns=0)
    later = BEGIN + 20 * MINUTE
    assert gone(box.works.engine, spec, later, later + SECOND) == Gone("t3", NOW + 5 * SECOND - 1)
    after = NOW + 5 * SECOND
    assert gone(box.works.engine, spec, after, after) is None
    assert gone(box.works.engine, spec, after - 1, after) is not None
    before = BEGIN - 2 * MINUTE
    assert gone(box.works.engine, spec, before, before) is None
    other = Spec("grid", (Input(1, 1),), SECOND, length=4, hop=1, lateness_ns=0)
    assert gone(box.works.engine, other, later, later) is None
    told = Spec("grid", (Input(1, 1),), SECOND, length=4, hop=1, lateness_ns=0, context=(("unit_id", 3),))
    assert gone(box.works.engine, told, later, later) == Gone("t3", NOW + 5 * SECOND - 1)
