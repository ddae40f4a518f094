"""The acceptance test from an empty folder to its result: load, faults, quiet, sums."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from app import times
from app.db import UnreachableError
from app.launcher.probes import http_answers
from app.ledger import service as ledger
from app.selftest import queries, sums
from app.selftest.box import DEVICE, PROCESS, Rig, plant, rig
from app.selftest.faults import pulled
from app.selftest.report import Came, Result
from app.selftest.schedule import BY_NAME, POWER, available, schedule

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from sqlalchemy import Engine

    from app.selftest.faults import Done
    from app.selftest.schedule import Fault
    from app.selftest.sums import Freshness, Span

FLOWS_S: Final = 60.0
"""How long the first readings may take, and the first ones after all faults."""
RESTS_S: Final = 180.0
"""How long what is under way may take until it has come to rest."""
LOOK_S: Final = 0.5
MAY_WAIT_NS: Final = times.NANOS
"""Windows close for ever, and each answer takes a moment to the broker."""
AROUND_NS: Final = 2 * times.NANOS
"""What a broker had confirmed so short before it was killed may have gone with it."""
LATE_NS: Final = 2 * times.NANOS
"""Windows that ended so short before the plant did are left out of the sums: they may not be closed yet."""
OURS: Final = ("gateway", "worker", "beat", "api")
"""Processes whose memory is watched."""
MOST_GAPS: Final = 100_000


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be run."""

    seed: int
    seconds: float
    database: str
    only: tuple[str, ...] = ()
    """Kinds of fault; empty: all."""
    plug: bool = True
    """Whether anything is done at all."""
    hold_s: float | None = None
    """How long each fault lasts that is not over at once; None: some seconds."""

    def within(self, seconds: float) -> float:
        """How long something may take that takes so long after a short fault: catching up is faster than real time."""
        return max(seconds, self.hold_s or 0.0)


async def run(plan: Plan, folder: Path, tell: Callable[[Done], None]) -> Result:
    """Raises LaunchError when the box cannot be started, ValueError for a fault that there is not."""
    available((), plan.only)
    cuts = plan.plug and not POWER.isdisjoint(plan.only or POWER)
    async with rig(folder, plan.database, plan.seed if cuts else None) as there:
        faults = _faults(there, plan)
        since, fresh = 0, None
        async with plant(there):
            if not await _flows(there, times.now()):
                return Result.stillborn(plan, there.left_out)
            since = times.now()
            async with _watched(there, since) as fresh:
                done = await _through(there, plan, faults, tell)
                flows = await _flows(there, times.now(), plan.within(FLOWS_S))
        until = times.now() - LATE_NS
        rests = await _at_rest(there, until, plan.within(RESTS_S))
        api, forgot = await _answers(there)
        came = Came(flows, rests, api, forgot)
        return await asyncio.to_thread(_result, there, plan, done, (since, until), fresh, came)


async def _through(there: Rig, plan: Plan, faults: Sequence[Fault], tell: Callable[[Done], None]) -> list[Done]:
    end = time.monotonic() + plan.seconds
    done = await pulled(there, faults, tell)
    await asyncio.sleep(max(0.0, end - time.monotonic()))
    return done


def _faults(there: Rig, plan: Plan) -> tuple[Fault, ...]:
    if not plan.plug:
        return ()
    return schedule(plan.seed, plan.seconds, available(there.there, plan.only), plan.hold_s)


async def _flows(there: Rig, since: int, within_s: float = FLOWS_S) -> bool:
    """Whether readings of both connections, and answers, that are newer than this (ns) are stored in time."""

    def new(engine: Engine) -> bool:
        newest = queries.newest(engine)
        readings = all(newest.get(name, 0) > since for name in (PROCESS, DEVICE))
        return readings and queries.newest_window(engine) > since

    return await _within(there, within_s, new)


async def _at_rest(there: Rig, until: int, within_s: float) -> bool:
    """Whether all that was read is stored, counted and sent, in time: every account balances with nothing held.

    `until` (ns): windows that ended by then are asked for one by one; later ones still come.
    """
    ended = times.now()

    def rests(engine: Engine) -> bool:
        accounts = ledger.accounts(engine)
        counted = bool(accounts) and all(one.balanced and not one.held and one.at > ended for one in accounts)
        late = queries.overdue(engine, times.now() - MAY_WAIT_NS)
        return counted and not late and not queries.unsent(engine, until)

    return await _within(there, within_s, rests)


async def _within(there: Rig, seconds: float, condition: Callable[[Engine], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if await there.ask(condition):
                return True
        except UnreachableError:
            pass
        await asyncio.sleep(LOOK_S)
    return False


async def _answers(there: Rig) -> tuple[bool, int]:
    """Whether the API serves, and how much it does not know of what it had confirmed."""
    port = int(there.stack.api_url.rpartition(":")[2])
    try:
        return await http_answers(port, "/readyz")(), await there.caller.forgotten()
    except OSError:
        return False, 0


@asynccontextmanager
async def _watched(there: Rig, since: int) -> AsyncIterator[Freshness]:
    """Looks at how old the newest reading is, all the while."""
    fresh = sums.Freshness(since)

    async def watch() -> None:
        while True:
            try:
                newest = await there.ask(queries.newest)
            except UnreachableError:
                newest = None
            fresh.look(times.now(), newest)
            fresh.weigh({name: there.status(name).rss_bytes for name in OURS})
            await asyncio.sleep(LOOK_S)

    task = asyncio.create_task(watch())
    try:
        yield fresh
    finally:
        task.cancel()
        await asyncio.wait([task])


def _result(
    there: Rig, plan: Plan, done: list[Done], span: Span, fresh: Freshness, came: Came
) -> Result:
    logs, forgets = there.logs, _forgets(done)
    since, until = span
    device = sums.Sent(*(sums.read(logs / "device" / name) for name in ("taken", "offered", "again")))
    sent = {PROCESS: sums.Sent(sums.read(logs / "server")), DEVICE: device}
    rows = []
    for name, of_plant in sent.items():
        spans = [(one.since, one.until) for one in ledger.gaps(there.engine, connection=name, limit=MOST_GAPS)]
        of_broker = forgets if name == DEVICE else []
        stored = queries.stored(there.engine, name)
        rows.append(sums.account(name, of_plant, stored, spans, since=since, forgets=of_broker))
    windows, published = queries.windows(there.engine, until).values(), queries.published(there.engine)
    answers = sums.north(windows, published, sums.heard(logs / "listener"), forgets)
    ledgers = [one for one in ledger.accounts(there.engine) if one.name in sent]
    return Result.of(plan, done, rows, answers, ledgers, fresh, came, left_out=there.left_out)


def _forgets(done: list[Done]) -> list[Span]:
    """When a broker was down that had lost what it had confirmed, and a moment around it."""
    return [
        (one.began - AROUND_NS, one.ended + AROUND_NS)
        for one in done
        if BY_NAME[one.kind].forgets and not one.note
    ]
