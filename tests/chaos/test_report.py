"""The report of an acceptance test: a verdict that follows from the numbers, for programs and for people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from app.commands.messages import ZH
from app.ledger.service import Account as Ledger
from app.selftest.faults import Done
from app.selftest.report import Came, Result, markdown, write
from app.selftest.run import Plan
from app.selftest.sums import Account, Freshness, North, Stall

PLAN = Plan(7, 90.0, "sqlite")
ACCOUNT = Account("plant", 100, 98, 1, 1, 0, (), (), ())
NORTH = North(40, (), 0, 0, ())
LEDGER = Ledger("plant", 98, 98, 0, 0, 0, 0, {}, 0)
DROPPED = Ledger("plant", 100, 98, 0, 2, 0, 0, {}, 0)
REFUSED = Ledger("plant", 100, 98, 2, 0, 0, 0, {}, 0)
CUT = Done("power_cut", 1_795_960_801_000_000_000, 1_795_960_809_000_000_000, how="content before names")
FAULT = Done("redis_killed", 1_795_960_800_000_000_000, 1_795_960_801_500_000_000)


def result(**change: Any) -> Result:  # noqa: ANN401 - one part of it
    """A good run, but for this."""
    given = {"rows": [ACCOUNT], "north": NORTH, "flows": True, "rests": True, "api": True, **change}
    rows, north, ledger = given.pop("rows"), given.pop("north"), given.pop("ledger", LEDGER)
    fresh = Freshness(0, Stall("plant", 3.5, 0), memory={"gateway": given.pop("held", 200) * 2**20})
    return Result.of(PLAN, [FAULT, CUT], rows, north, [ledger], fresh, Came(**given), left_out="")


def test_a_good_run_is_passed() -> None:
    """What lies in gaps, or was forgotten by a broker that was killed, is said and is no failure."""
    assert result().good


@pytest.mark.parametrize(
    "change",
    [
        {"flows": False},
        {"rests": False},
        {"api": False},
        {"forgot": 1},
        {"rows": []},
        {"rows": [Account("plant", 100, 99, 0, 0, 0, (("a", 1, 2.0),), (), ())]},
        {"rows": [Account("plant", 100, 100, 0, 0, 0, (), (("a", 1, 2.0),), ())]},
        {"rows": [Account("plant", 100, 100, 0, 0, 0, (), (), (("a", 1, 2.0),))]},
        {"ledger": DROPPED},
        {"ledger": REFUSED},
        {"north": North(40, (3,), 0, 0, ())},
        {"north": North(40, (), 1, 0, ())},
        {"north": North(40, (), 0, 0, ("p",))},
        {"north": North(0, (), 0, 0, ())},
        {"held": 1025},
    ],
)
def test_whatever_is_wrong_fails_it(change: dict[str, Any]) -> None:
    """Each by itself."""
    assert not result(**change).good


def test_what_the_journal_still_has_is_not_lost() -> None:
    """A box that did not come to rest has failed, and says how much of what is not stored it holds."""
    lost = tuple(("a", at, 2.0) for at in range(5))
    made = result(
        rows=[Account("plant", 100, 95, 0, 0, 0, lost, (), ())], ledger=Ledger("plant", 98, 95, 0, 0, 3, 0, {}, 0),
        rests=False,
    )  # fmt: skip
    assert (made.total("held"), made.total("lost"), made.good) == (3, 2, False)


def test_a_box_that_never_got_a_reading_fails() -> None:
    """There is nothing to sum up then, and that is said."""
    made = Result.stillborn(PLAN, "")
    assert not made.good
    assert "FAILED" in markdown(made, str)


def test_the_page_names_seed_faults_and_what_is_lost() -> None:
    """Whoever reads it can run the same again, and look for the readings."""
    made = result(rows=[Account("plant", 100, 99, 0, 0, 0, (("level", 1_795_960_800_000_000_000, 2.5),), (), ())])
    page = markdown(made, str)
    assert "| seed | 7 |" in page
    assert "| redis_killed | 2026-11-29T14:00:00.000000000Z | 1.5 |" in page
    assert "| plant | 100 | 99 |" in page
    assert "- level 2026-11-29T14:00:00.000000000Z 2.5" in page


def test_the_page_exists_in_chinese() -> None:
    """Every text of it has a translation."""
    asked: set[str] = set()

    def say(text: str) -> str:
        asked.add(text)
        return ZH.get(text, text)

    page = markdown(result(), say) + markdown(result(rests=False, flows=False, api=False), say)
    assert len(asked) > 20
    assert asked - ZH.keys() == set()
    assert "验收测试" in page


def test_both_files_say_the_same(tmp_path: Path) -> None:
    """The JSON is the result itself."""
    page, data = write(result(), tmp_path / "reports", "run", str)
    assert page.read_text().startswith("# Acceptance test")
    found = msgspec.json.decode(data.read_bytes(), type=Result)
    assert (found.seed, found.total("sent"), found.good) == (7, 100, True)
