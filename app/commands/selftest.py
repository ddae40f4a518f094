"""`headrace selftest`: an acceptance test on this machine, in a box of its own that is gone afterwards."""

from __future__ import annotations

import asyncio
import secrets
import tempfile
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app import times
from app.commands.box import stop_on_signal
from app.commands.console import fail, out, t, table
from app.launcher.process import LaunchError
from app.selftest import report as reports
from app.selftest.run import Plan, run

if TYPE_CHECKING:
    from app.selftest.faults import Done
    from app.selftest.report import Result


class StoppedError(Exception):
    """Somebody has stopped the run before its end: there is no result."""


class Database(StrEnum):
    """What a box of the test's own keeps its history in."""

    SQLITE = "sqlite"
    POSTGRESQL = "postgresql"


def selftest(
    *,
    plug: Annotated[
        bool, typer.Option("--plug", help="Pull the plug: kill, stop, cut and fill while it runs.")
    ] = False,
    seconds: Annotated[float, typer.Option("--for", min=20, max=604_800, help="How long, in seconds.")] = 90,
    seed: Annotated[int | None, typer.Option(min=0, help="Repeats the faults of an earlier run.")] = None,
    database: Annotated[Database, typer.Option(help="sqlite or postgresql.")] = Database.SQLITE,
    only: Annotated[list[str] | None, typer.Option(help="Only this fault; may be given again.")] = None,
    hold: Annotated[
        float | None, typer.Option(min=1, max=86_400, help="How long each fault lasts, in seconds; not kills.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Folder for the report, as Markdown and JSON.")] = None,
    keep: Annotated[Path | None, typer.Option(help="Keep data and logs in this new folder.")] = None,
) -> None:
    """Run a gateway of its own with a simulated plant and hold what is stored against the plant's log.

    It touches no other gateway and leaves nothing behind; exit status 1 when something is lost, doubled or unsaid.
    """
    chosen = secrets.randbelow(2**31) if seed is None else seed
    plan = Plan(chosen, seconds, database.value, tuple(only or ()), plug, hold)
    out.print(t("Seed {seed}: the same seed brings the same faults.", seed=chosen))
    try:
        result = _run(plan, keep)
    except FileExistsError as error:
        raise fail(t("{folder} is there already: choose a new one with --keep", folder=keep)) from error
    except StoppedError as error:
        raise fail(t("Stopped before its end: there is no result.")) from error
    except (LaunchError, ValueError) as error:
        raise fail(str(error)) from error
    _show(result)
    if report is not None:
        name = f"{times.rfc3339(result.made_at)[:19].replace(':', '')}-{plan.database}-{plan.seed}"
        page, _ = reports.write(result, report, name, t)
        out.print(t("The report is in {file}.", file=page), markup=False)
    if not result.good:
        raise fail(t("FAILED: see above. Seed {seed} brings the same faults again.", seed=chosen))
    out.print(t("PASSED: nothing is lost, nothing is doubled"), style="bold")


def _run(plan: Plan, keep: Path | None) -> Result:
    if keep is not None:
        # Never a folder that somebody has something in.
        keep.mkdir(parents=True)
        return asyncio.run(_stoppable(plan, keep.resolve()))
    with tempfile.TemporaryDirectory(prefix="headrace-selftest-", ignore_cleanup_errors=True) as folder:
        return asyncio.run(_stoppable(plan, Path(folder)))


async def _stoppable(plan: Plan, folder: Path) -> Result:
    """The run; whoever tells it to stop, by Ctrl-C or SIGTERM, finds nothing left behind. Raises StoppedError."""
    stop = stop_on_signal()
    going, waiting = asyncio.create_task(run(plan, folder, _tell)), asyncio.create_task(stop.wait())
    await asyncio.wait((going, waiting), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if not going.done():
        going.cancel()
        await asyncio.wait([going])
        raise StoppedError
    return going.result()


def _tell(done: Done) -> None:
    seconds = f"{(done.ended - done.began) / times.NANOS:.1f}"
    told = done.note or (t(done.how) if done.how else "")
    note = f" ({told})" if told else ""
    out.print(f"{times.rfc3339(done.began)[11:19]} {done.kind} {seconds} s{note}", markup=False)


def _show(result: Result) -> None:
    rows = [(t(name), *(one[name] for one in result.connections)) for name in reports.COLUMNS]
    names = [one["name"] for one in result.connections]
    table("", [t("readings"), *names], rows, numbers=range(1, len(names) + 1))
    for one in result.connections:
        for what, readings in one["named"].items():
            for tag, at, value in readings:
                out.print(f"  {t(what)}: {one['name']} {tag} {times.rfc3339(at)} {value:g}", markup=False)
    if result.north:
        out.print(t(
            "windows {windows}, missing {missing}; not sent {unsent}, not heard {unheard}",
            **{name: result.north[name] for name in ("windows", "missing", "unsent", "unheard")},
        ))  # fmt: skip
    held = ", ".join(f"{name} {most}" for name, most in sorted(result.memory_mb.items()))
    out.print(t("memory at most, MB: {held}", held=held), markup=False)
    seconds = result.stall.seconds
    out.print(t("faults {count}, longest stall {seconds:.1f} s", count=len(result.faults), seconds=seconds))
    for good, what in (
        (result.flows, t("nothing new came after the faults")),
        (result.rests, t("what was under way did not come to rest, or the ledger does not balance")),
        (result.api, t("the API does not serve")),
        (not result.forgot, t("what the API had confirmed before a power cut is gone")),
        (result.light, t("a process held more memory than it may")),
    ):
        if not good:
            out.print(t("NOT met: {what}", what=what), style="red", markup=False)
    if result.left_out:
        out.print(t("Left out, clock and fsync faults and power cuts: {reason}", reason=result.left_out), markup=False)
