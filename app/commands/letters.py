"""`headrace dead-letters`: what could not be scored is listed, inspected, mended, computed again or dropped."""

from __future__ import annotations

import getpass
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import typer

from app import times
from app.commands.console import as_json, fail, out, t, table
from app.commands.plant import database
from app.commands.running import Data, choose_data
from app.errors import QueueError
from app.letters import queries, service
from app.letters.schemas import LetterError, inputs, summary, unpack
from app.queue import REPLAY_LETTERS, ask_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Letter = Annotated[int, typer.Argument(help="Number of the dead letter.", min=1)]
Letters = Annotated[list[int], typer.Argument(help="Numbers of dead letters.", min=1)]
STATES: Final = ("open", "waiting", "replayed", "dropped")
MOST_BYTES: Final = 64 * 2**20
"""Of a file with inputs."""


class _Window(msgspec.Struct):
    end: str
    values: list[list[float | None]]


class _Inputs(msgspec.Struct):
    windows: list[_Window]


@contextmanager
def _opened(data: Path | None) -> Iterator[Engine]:
    """The database; what cannot be done with a letter is a sentence."""
    choose_data(data)
    with database(make=False) as engine:
        try:
            yield engine
        except LetterError as error:
            raise fail(str(error)) from error


def listed(
    context: typer.Context,
    *,
    pipeline: Annotated[str | None, typer.Option(help="Of this pipeline only.")] = None,
    state: Annotated[str | None, typer.Option(help="open, waiting, replayed or dropped.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most, newest first.")] = 100,
    json_: Json = False,
    data: Data = None,
) -> None:
    """Show what could not be scored or taken, and what has become of it; alone, it lists them."""
    if context.invoked_subcommand is not None:
        return
    if state is not None and state not in STATES:
        raise fail(t("There is no state {state}; there are: {states}", state=state, states=", ".join(STATES)), 2)
    with _opened(data) as engine:
        found = queries.letters(engine, queries.Wanted(pipeline, state), None, limit)
    if json_:
        as_json([_view(one) for one in found])
    elif not found:
        out.print(t("No dead letters."))
    else:
        columns = ("number", "time", "of", "reason", "windows in it", "kept", "state", "detail")
        rows = [
            (
                letter.id,
                times.rfc3339(letter.at)[:19],
                letter.address,
                letter.reason,
                "" if windows is None else windows.windows,
                "" if windows is None else _kept(one),
                "" if windows is None else windows.state,
                (windows.said if windows is not None else "") or letter.detail,
            )
            for one in found
            for letter, windows in [one[:2]]
        ]
        table("", [t(c) for c in columns], rows, numbers=(0, 4, 5))


def _kept(found: queries.Found) -> int:
    windows = found[1]
    return windows.kept if windows is not None and windows.body else 0


def _view(found: queries.Found) -> dict[str, Any]:
    """A letter as JSON."""
    letter, windows, connection, pipeline, version = found
    made: dict[str, Any] = {
        "id": letter.id, "at": times.rfc3339(letter.at), "connection": connection, "address": letter.address,
        "reason": letter.reason, "detail": letter.detail, "readings": letter.readings, "windows": None,
    }  # fmt: skip
    if windows is not None:
        made["windows"] = {
            "pipeline": pipeline, "version": version, "windows": windows.windows, "kept": _kept(found),
            "first_end": times.rfc3339(windows.first_end), "last_end": times.rfc3339(windows.last_end),
            "state": windows.state, "mended": windows.mended is not None, "answered": windows.answered,
            "said": windows.said, "changed_by": windows.changed_by,
        }  # fmt: skip
    return made


def show(
    number: Letter,
    *,
    inputs_to: Annotated[
        Path | None, typer.Option("--inputs", help="Write the inputs of its windows here, to be corrected.")
    ] = None,
    json_: Json = False,
    data: Data = None,
) -> None:
    """Show one dead letter: what, why, and its inputs in short."""
    with _opened(data) as engine:
        found = queries.letter(engine, number)
        if found is None:
            raise fail(t("There is no dead letter {number}.", number=number))
        windows = found[1]
        kept = unpack(windows.mended or windows.body) if windows is not None and windows.body else None
        names = [] if windows is None else queries.input_names(engine, windows.version_id)
    figures = [] if kept is None else summary(kept)
    if inputs_to is not None:
        if kept is None:
            raise fail(t("Dead letter {number} keeps no windows.", number=number))
        written = {"letter": number, "inputs": names, "windows": list(inputs(kept))}
        inputs_to.write_bytes(msgspec.json.format(msgspec.json.encode(written)))
        out.print(t("Correct {file}, then: headrace dead-letters mend {number} {file}", file=inputs_to, number=number))
        return
    if json_:
        as_json({**_view(found), "inputs": [{"tag": n, **one} for n, one in zip(names, figures, strict=False)]})
        return
    table("", [t("field"), t("value")], _facts(_view(found)))
    rows = [
        (name, _short(one["smallest"]), _short(one["mean"]), _short(one["largest"]), one["not_good"], one["not_finite"])
        for name, one in zip(names, figures, strict=False)
    ]
    columns = ("tag", "smallest", "mean", "largest", "not good", "no number")
    if rows:
        table("", [t(c) for c in columns], rows, numbers=range(1, 6))


def _facts(view: dict[str, Any]) -> list[tuple[str, object]]:
    return [(name, one) for part in (view, view["windows"] or {}) for name, one in part.items() if name != "windows"]


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"


def mend(
    number: Letter,
    file: Annotated[Path, typer.Argument(help="The inputs as `show --inputs` wrote them, corrected.")],
    *,
    data: Data = None,
) -> None:
    """Replace inputs of its windows; what is computed from them is marked as overwritten by a person."""
    edits = _edits(file)
    with _opened(data) as engine:
        cells = service.correct(engine, getpass.getuser(), number, edits)
    out.print(t("{cells} values of dead letter {number} were replaced.", cells=cells, number=number))


def _edits(file: Path) -> dict[int, list[list[float | None]]]:
    try:
        if file.stat().st_size > MOST_BYTES:
            raise fail(t("{file} cannot be read: {reason}", file=file, reason=f"> {MOST_BYTES} B"))
        found = msgspec.json.decode(file.read_bytes(), type=_Inputs)
        return {times.parse_time(one.end): one.values for one in found.windows}
    except (OSError, msgspec.MsgspecError, ValueError) as error:
        raise fail(t("{file} cannot be read: {reason}", file=file, reason=error)) from error


def replay(
    numbers: Letters,
    *,
    present: Annotated[
        bool, typer.Option("--present", help="By the version in force now instead of the one they were made for.")
    ] = False,
    data: Data = None,
) -> None:
    """Have a worker compute the windows again: late, without a number, raising no alarm."""
    with _opened(data) as engine:
        for number in numbers:
            service.ask(engine, getpass.getuser(), number, present=present)
            out.print(t("Dead letter {number} waits for a worker.", number=number))
    with suppress(QueueError):
        ask_for(REPLAY_LETTERS)


def drop(
    numbers: Letters,
    *,
    reason: Annotated[str, typer.Option(help="Why; it stays in the audit log.")],
    data: Data = None,
) -> None:
    """Let go of what dead letters hold, for good."""
    with _opened(data) as engine:
        for number in numbers:
            service.drop(engine, getpass.getuser(), number, reason)
            out.print(t("Dead letter {number} was dropped.", number=number))
