"""What an acceptance test has found: for programs as JSON, for people as Markdown."""

from __future__ import annotations

import platform
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import msgspec

from app import times
from app.selftest.sums import MOST_NAMED, Freshness, Stall

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from app.ledger.service import Account as Ledger
    from app.selftest.faults import Done
    from app.selftest.run import Plan
    from app.selftest.sums import Account, North

    Say = Callable[[str], str]

SCHEMA: Final = 1
MOST_MB: Final = 1024
"""No process of the box holds more, its children with it: whatever waits for somebody waits on disk."""


class Came(NamedTuple):
    """What came after the faults; see `Result`."""

    flows: bool = False
    rests: bool = False
    api: bool = False
    forgot: int = 0


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One run. Numbers are readings, times ns since 1970 UTC."""

    schema: int = SCHEMA
    seed: int
    seconds: float
    database: str
    made_at: int
    host: str
    left_out: str
    """Why faults that need a C compiler were left out; empty when they were not."""
    faults: list[dict[str, Any]]
    connections: list[dict[str, Any]]
    north: dict[str, Any]
    stall: Stall
    flows: bool
    """New readings and answers came after all faults."""
    rests: bool
    """All that was read was stored, counted and sent; every account of the ledger balances."""
    api: bool
    """The API serves at the end."""
    forgot: int = 0
    """What the API had confirmed just before a power cut, and did not know at the end."""
    hold_s: float | None = None
    """How long each fault was to last; None: some seconds."""
    memory_mb: dict[str, int] = {}
    """What each process of the box held at most, its children with it; resident memory, in 2**20 bytes."""

    @classmethod
    def stillborn(cls, plan: Plan, left_out: str) -> Self:
        """Nothing came from the plant at all."""
        return cls.of(plan, [], [], None, [], Freshness(0), Came(), left_out=left_out)

    @classmethod
    def of(
        cls, plan: Plan, done: Sequence[Done], rows: Sequence[Account], north: North | None, ledgers: Sequence[Ledger],
        fresh: Freshness, came: Came, *, left_out: str,
    ) -> Self:  # fmt: skip
        """Put it together."""
        accounts = {one.name: one for one in ledgers}
        return cls(
            seed=plan.seed,
            seconds=plan.seconds,
            database=plan.database,
            made_at=times.now(),
            host=f"{platform.system()} {platform.machine()}",
            left_out=left_out,
            faults=[asdict(one) for one in done],
            connections=[_connection(one, accounts.get(one.connection)) for one in rows],
            north={} if north is None else _north(north),
            stall=fresh.worst,
            hold_s=plan.hold_s,
            memory_mb={name: -(-held // 2**20) for name, held in fresh.memory.items()},
            flows=came.flows,
            rests=came.rests,
            api=came.api,
            forgot=came.forgot,
        )

    def total(self, name: str) -> int:
        """Over all connections."""
        return sum(one[name] for one in self.connections)

    @property
    def light(self) -> bool:
        """Whether memory stayed bounded in every process."""
        return max(self.memory_mb.values(), default=0) <= MOST_MB

    @property
    def good(self) -> bool:
        """Whether it was as promised."""
        # The plant sends nothing that has to be refused, and this box is told to drop nothing.
        wrong = ("lost", "doubled", "invented", "refused", "dropped")
        return (
            self.flows and self.rests and self.api and not self.forgot and bool(self.connections)
            and not any(self.total(name) for name in wrong)
            and self.north["windows"] > 0
            and not (self.north["missing"] or self.north["unsent"] or self.north["unheard"])
            and self.light
        )  # fmt: skip


def _connection(row: Account, ledger: Ledger | None) -> dict[str, Any]:
    # What a box that did not come to rest has in its journal is not lost; its ledger has counted how much that is.
    held = 0 if ledger is None else ledger.held
    lost = max(0, len(row.lost) - held)
    named = {name: [list(one) for one in getattr(row, name)[:MOST_NAMED]] for name in ("lost", "doubled", "invented")}
    return {
        "name": row.connection,
        "sent": row.sent,
        "stored": row.stored,
        "in_gaps": row.in_gaps,
        "held": held,
        "forgotten": row.forgotten,
        "repeated": row.repeated,
        "lost": lost,
        "doubled": len(row.doubled),
        "invented": len(row.invented),
        "refused": 0 if ledger is None else ledger.refused,
        "dropped": 0 if ledger is None else ledger.dropped,
        "balanced": ledger is not None and ledger.balanced,
        "named": named,
    }


def _north(found: North) -> dict[str, Any]:
    return {
        "windows": found.windows,
        "missing": len(found.missing),
        "unsent": found.unsent,
        "forgotten": found.forgotten,
        "unheard": len(found.unheard),
        "named": {"missing": found.missing[:MOST_NAMED], "unheard": found.unheard[:MOST_NAMED]},
    }


ANSWERS: Final = {
    "windows": "windows closed", "missing": "missing", "unsent": "unsent", "forgotten": "forgotten",
    "unheard": "unheard",
}  # fmt: skip
COLUMNS: Final = (
    "sent", "stored", "in_gaps", "held", "forgotten", "repeated", "lost", "doubled", "invented", "refused", "dropped",
)  # fmt: skip


def markdown(result: Result, say: Say) -> str:
    """The page for people; `say` puts a text into their language."""
    lines = [f"# {say('Acceptance test')}", ""]
    verdict = say("PASSED: nothing is lost, nothing is doubled") if result.good else say("FAILED")
    lines += [f"**{verdict}**", "", *_about(result, say), "", f"## {say('Readings')}", ""]
    lines += _table([say("connection"), *map(say, COLUMNS)], [
        [one["name"], *(one[name] for name in COLUMNS)] for one in result.connections
    ])  # fmt: skip
    if result.north:
        lines += ["", f"## {say('Answers')}", ""]
        lines += _table([*map(say, ANSWERS.values())], [[result.north[name] for name in ANSWERS]])
    lines += ["", f"## {say('Faults')}", ""]
    rows = [_fault(one, say) for one in result.faults]
    lines += _table([say("fault"), say("began"), say("seconds"), say("note")], rows)
    for one in result.connections:
        lines += _named(one, say)
    return "\n".join(lines) + "\n"


def _about(result: Result, say: Say) -> list[str]:
    rows = [
        (say("made at"), times.rfc3339(result.made_at)),
        (say("seed"), result.seed),
        (say("seconds"), round(result.seconds)),
        (say("database"), result.database),
        (say("host"), result.host),
        (say("longest stall"), f"{result.stall.seconds:g} s ({result.stall.connection})"),
        (say("flows again after the faults"), say("yes") if result.flows else say("NO")),
        (say("came to rest, ledger balanced"), say("yes") if result.rests else say("NO")),
        (say("API serves"), say("yes") if result.api else say("NO")),
        (say("API knows what it had confirmed"), say("NO") if result.forgot else say("yes")),
        (say("memory at most, MB"), ", ".join(f"{name} {held}" for name, held in sorted(result.memory_mb.items()))),
        *([(say("each fault lasts, s"), f"{result.hold_s:g}")] if result.hold_s is not None else []),
        *([(say("left out"), result.left_out)] if result.left_out else []),
    ]
    return _table([say("what"), ""], rows)


def _fault(one: Mapping[str, Any], say: Say) -> tuple[object, ...]:
    told = one["note"] or (say(one["how"]) if one["how"] else "")
    return (one["kind"], times.rfc3339(one["began"]), f"{(one['ended'] - one['began']) / 1e9:.1f}", told)


def _named(one: Mapping[str, Any], say: Say) -> list[str]:
    found = []
    for what, readings in one["named"].items():
        if readings:
            found += ["", f"## {one['name']}: {say(what)}", ""]
            found += [f"- {tag} {times.rfc3339(at)} {value:g}" for tag, at, value in readings]
    return found


def _table(head: Sequence[object], rows: Sequence[Sequence[object]]) -> list[str]:
    line = [f"| {' | '.join(map(str, one))} |" for one in (head, ["---"] * len(head), *rows)]
    return [one.replace("|  |", "| |") for one in line]


def write(result: Result, folder: Path, name: str, say: Say) -> tuple[Path, Path]:
    """`NAME.md` and `NAME.json` in this folder; returns both. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    page, data = folder / f"{name}.md", folder / f"{name}.json"
    page.write_text(markdown(result, say), encoding="utf-8")
    data.write_bytes(msgspec.json.format(msgspec.json.encode(result)) + b"\n")
    return page, data
