"""Classes of tags in a plant file: checked with their lines, put in force at once, and nobody is disturbed by it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, select

from app.commands.mistakes import line
from app.config.document import parse
from app.config.sheets import Row
from app.config.tag_import import planned
from app.db import make_engine, reading, upgrade
from app.history.tables import HistoryClassRow
from app.plant import service
from app.sources.tables import ConnectionRow, TagRow
from app.thinning.queries import Class, every_class
from tests.app.config.conftest import Check, Wrong, check, good, store, wrong

__all__ = ["check", "good", "store", "wrong"]

HISTORY = """\
history:
  default: process
  classes:
    - name: process
      keep_days: 3650
      thin: [{after_days: 30, every_s: 60}, {after_days: 365, every_s: 3600}]
    - {name: quality, priority: 1}
"""


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """A database at the newest schema."""
    upgrade(database_url)
    made = make_engine(database_url)
    yield made
    made.dispose()


def of_tags(engine: Engine) -> dict[str, str | None]:
    """Name to class of every tag that is read."""
    query = select(TagRow.name, TagRow.history).where(TagRow.connection_id.is_not(None)).order_by(TagRow.id)
    with reading(engine) as session:
        return {name: history for name, history in session.execute(query)}  # noqa: C416 - rows are not pairs


def with_classes(good: str) -> str:
    """One tag names its class itself."""
    return (good + HISTORY).replace('torque"', 'torque", history: quality')


def test_a_tag_has_its_own_class_its_connections_or_the_plants(check: Check, good: str) -> None:
    """In this order."""
    found = check(with_classes(good)).tags
    assert [found[name].history for name in ("torque", "angle")] == ["quality", "process"]
    of_connection = with_classes(good).replace("    options:", "    history: quality\n    options:", 1)
    found = check(of_connection).tags
    assert {one.history for one in found.values()} == {"quality"}
    assert {one.history for one in check(good).tags.values()} == {""}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("default: process", "default: proces", "there is no class 'proces'"),
        ('torque"', 'torque", history: qality', "there is no class 'qality'"),
        ("mqtt\n    options:", "mqtt\n    history: nothing\n    options:", "there is no class 'nothing'"),
        ("name: quality,", "name: process,", "is taken"),
        ("every_s: 3600", "every_s: 90", "no whole multiple of the 60 s"),
        ("every_s: 3600", "every_s: 60", "no whole multiple of the 60 s"),
        ("after_days: 365", "after_days: 30", "from the youngest to the oldest"),
        ("keep_days: 3650", "keep_days: 365", "nothing is left to be thinned"),
        ("after_days: 30,", "after_days: 0.5,", "greater than or equal to 1"),
        ("priority: 1", "priority: 5", "less than or equal to 4"),
        ("priority: 1", "prioriti: 1", "unknown key 'prioriti'"),
        ("every_s: 60}", "every: 60}", "unknown key 'every'"),
    ],
)
def test_each_mistake_is_said_where_it_stands(wrong: Wrong, good: str, old: str, new: str, said: str) -> None:
    """And nothing that only follows from it."""
    assert old in good + HISTORY
    text = (good + HISTORY).replace(old, new, 1)
    mistakes = wrong(text)
    assert any(said in one.message for one in mistakes)
    assert len(mistakes) == (2 if new == "every: 60}" else 1)
    changed = set(text.splitlines()) - set((good + HISTORY).splitlines())
    assert {text.splitlines()[one.line - 1] for one in mistakes} == changed


def test_they_are_in_force_at_once_and_no_connection_is_read_anew(engine: Engine, check: Check, good: str) -> None:
    """The difference says it; a class that no file has any more stays for those that were retired with it."""
    service.apply(engine, check(good), "wu")
    with reading(engine) as session:
        before = session.scalars(select(ConnectionRow.revision)).one()
    text = with_classes(good)
    changes = service.apply(engine, check(text), "wu").changes
    assert {(one.kind, one.name, one.what) for one in changes} == {
        ("history", "process", "added"), ("history", "quality", "added"),
        *(("tag", name, "changed") for name in ("torque", "angle", "counter", "serial")),
    }  # fmt: skip
    assert of_tags(engine) == dict.fromkeys(("torque", "angle", "counter", "serial"), "process") | {"torque": "quality"}
    with reading(engine) as session:
        assert session.scalars(select(ConnectionRow.revision)).one() == before
        assert set(session.scalars(select(TagRow.revision))) == {1}
    steps = ((30.0, 60), (365.0, 3600))
    assert every_class(engine) == [Class("process", 3650.0, 3, steps, 3), Class("quality", None, 1, (), 1)]
    assert service.apply(engine, check(text), "wu").changes == ()
    text = text.replace("keep_days: 3650", "keep_days: 4000").replace("after_days: 30,", "after_days: 31,")
    (change,) = service.apply(engine, check(text), "wu").changes
    assert (change.what, change.detail) == (
        "changed", "keep_days: 3650.0 → 4000.0, thin: [[30.0, 60], [365.0, 3600]] → [[31.0, 60], [365.0, 3600]]",
    )  # fmt: skip
    gone = ("name: torque,", "name: quality")
    without = "\n".join(line for line in text.splitlines() if not any(word in line for word in gone))
    without = without.replace("tags: [torque, angle]", "tags: [angle, counter]")
    changes = service.apply(engine, check(without), "wu").changes
    assert ("history", "quality", "removed") in {(one.kind, one.name, one.what) for one in changes}
    assert of_tags(engine)["torque"] == "quality"
    with reading(engine) as session:
        assert session.get_one(HistoryClassRow, "quality").retired_at is not None
    assert [(one.name, one.tags) for one in every_class(engine)] == [("process", 3), ("quality", 0)]
    service.apply(engine, check(text), "wu")
    assert of_tags(engine)["torque"] == "quality"


def test_a_tag_that_is_new_is_said_once(engine: Engine, check: Check, good: str) -> None:
    """It is added, with its class; that is no change of it."""
    changes = service.apply(engine, check(with_classes(good)), "wu").changes
    assert [one.what for one in changes if one.kind == "tag"] == ["added"] * 4
    assert of_tags(engine)["torque"] == "quality"


@pytest.mark.parametrize(("old", "new", "said"), [
    ("default: process", "default: nothing", "history 下没有类别 'nothing'"),
    ("every_s: 3600", "every_s: 90", "90 秒不是前一步 60 秒的整数倍（例如 60, 3600, 86400）"),
    ("after_days: 365", "after_days: 30", "各步骤须由近及远"),
    ("keep_days: 3650", "keep_days: 365", "365 天之后已没有可抽稀的内容（请使其大于最后一步的 after_days）"),
])  # fmt: skip
def test_mistakes_are_said_in_chinese_too(wrong: Wrong, good: str, old: str, new: str, said: str) -> None:
    """With their hints."""
    (mistake,) = wrong((good + HISTORY).replace(old, new, 1))
    assert said in line(mistake)


def test_a_table_of_tags_has_them_too(check: Check, wrong: Wrong, good: str, tmp_path: Path) -> None:
    """In `tags_file`, and in what is imported into a file; in Chinese as well."""
    table = tmp_path / "tags.csv"
    table.write_text("名称,连接,地址,历史\noil,station,oil#/v,quality\nheat,station,heat#/v,\n", encoding="utf-8")
    text = good + HISTORY + "tags_file: tags.csv\n"
    found = check(text).tags
    assert (found["oil"].history, found["heat"].history) == ("quality", "process")
    table.write_text("name,connection,address,history\noil,station,oil#/v,qality\n", encoding="utf-8")
    (mistake,) = wrong(text)
    assert (mistake.line, mistake.hint) == (2, "did you mean 'quality'?")
    document = parse(good + HISTORY, "plant.yaml")
    columns = frozenset(("name", "history"))
    plan = planned(document, "t.csv", [Row(2, {"name": "angle", "history": "quality"}, columns)])
    assert [(one.name, one.detail) for one in plan.changes] == [("angle", "history:  → quality")]
    plan = planned(document, "t.csv", [Row(2, {"name": "angle", "history": "qality"}, columns)])
    assert [one.hint for one in plan.mistakes] == ["did you mean 'quality'?"]
