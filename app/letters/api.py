"""Dead letters over REST: what could not be scored is inspected, mended, computed again or dropped."""

from __future__ import annotations

import base64
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from app import times
from app.access.api import Database, Engineer, Viewer
from app.api import Cursor, Limit, Page, View, open_cursor, seal_cursor
from app.errors import Problem, QueueError
from app.letters import queries, service
from app.letters.schemas import LetterError, inputs, summary, unpack
from app.queue import REPLAY_LETTERS, ask_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.letters.tables import DeadWindowsRow

router = APIRouter(prefix="/api/v1", tags=["dead letters"])


class WindowsView(View):
    """The windows of a dead letter, and what has become of them."""

    pipeline: str | None
    version: int | None
    windows: int
    kept: int
    """So many of them are kept and can be computed again."""
    first_end: str
    last_end: str
    state: str
    """`open`, `waiting` to be computed, `replayed`, `dropped`."""
    mended: bool
    """Whether a person has replaced inputs."""
    answered: int
    """Of the last replay."""
    said: str
    """Why the last replay left windows without an answer, or why they were dropped."""
    changed_at: str
    changed_by: str


class LetterView(View):
    """One dead letter."""

    id: int
    at: str
    connection: str | None
    address: str
    """The pipeline; or where at the peer something came from that could not become a reading."""
    reason: str
    detail: str
    """What the model, the engine, the database or the connector said."""
    windows: WindowsView | None
    """Null for what a peer sent that could not become a reading."""


class InputView(View):
    """One input over all kept windows of a letter."""

    tag: str
    smallest: float | None
    largest: float | None
    mean: float | None
    cells: int
    not_good: int
    """Cells whose status is not Good."""
    not_finite: int
    """Cells without a number."""


class WholeView(LetterView):
    """One dead letter with what it holds."""

    excerpt: str
    """Of what a peer sent, the first bytes, base64."""
    readings: int
    inputs: list[InputView]


class WindowInputs(BaseModel):
    """The inputs of one window."""

    model_config = ConfigDict(extra="forbid")

    end: str = Field(max_length=40)
    values: list[list[float | None]] = Field(max_length=100_000)
    """Rows in the order of time, a value for each input; null where there is none, or where it is left as it is."""


class InputsView(View):
    """Every kept window with its inputs, in the form in which they are corrected."""

    inputs: list[str]
    """Tags, in the order of the columns."""
    windows: list[WindowInputs]


class Correction(BaseModel):
    """Windows with other inputs."""

    model_config = ConfigDict(extra="forbid")

    inputs: list[str] = Field(default_factory=list, max_length=10_000)
    """As they were shown; nothing is read from it."""
    windows: list[WindowInputs] = Field(min_length=1, max_length=10_000)


class Replay(BaseModel):
    """Which version is to compute the windows."""

    model_config = ConfigDict(extra="forbid")

    version: Literal["own", "present"] = "own"
    """The one they were made for, or the one in force now."""


class Dropping(BaseModel):
    """Why it is let go of."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(min_length=1, max_length=1000)


@contextmanager
def _told() -> Iterator[None]:
    """What cannot be done is a problem: 404 where there is no such letter, else 409."""
    try:
        yield
    except service.NoLetterError as error:
        raise Problem(404, "not_found", "There is no such dead letter", str(error)) from error
    except LetterError as error:
        raise Problem(409, "letter_conflict", "This cannot be done with the dead letter", str(error)) from error


def _windows(row: DeadWindowsRow, pipeline: str | None, version: int | None) -> WindowsView:
    return WindowsView(
        pipeline=pipeline,
        version=version,
        windows=row.windows,
        kept=row.kept if row.body else 0,
        first_end=times.rfc3339(row.first_end),
        last_end=times.rfc3339(row.last_end),
        state=row.state,
        mended=row.mended is not None,
        answered=row.answered,
        said=row.said,
        changed_at=times.rfc3339(row.changed_at),
        changed_by=row.changed_by,
    )


def _view(found: queries.Found) -> dict[str, Any]:
    letter, windows, connection, pipeline, version = found
    return {
        "id": letter.id,
        "at": times.rfc3339(letter.at),
        "connection": connection,
        "address": letter.address,
        "reason": letter.reason,
        "detail": letter.detail,
        "windows": None if windows is None else _windows(windows, pipeline, version),
    }


def _found(engine: Database, letter: int) -> queries.Found:
    found = queries.letter(engine, letter)
    if found is None:
        raise Problem(404, "not_found", "There is no such dead letter")
    return found


@router.get("/dead-letters/windows", operation_id="listDeadWindows")
def dead_windows(
    _who: Viewer,
    engine: Database,
    *,
    pipeline: Annotated[str | None, Query(max_length=100)] = None,
    state: Annotated[Literal["open", "waiting", "replayed", "dropped"] | None, Query()] = None,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> Page[LetterView]:
    """Dead letters with windows, newest first."""
    key = open_cursor(cursor, 1)
    wanted = queries.Wanted(pipeline, state, windows_only=True)
    rows = queries.letters(engine, wanted, int(key[0]) if key else None, limit)
    more = seal_cursor(rows[-1][0].id) if len(rows) == limit else None
    return Page(items=[LetterView(**_view(row)) for row in rows], next=more)


@router.get("/dead-letters/{letter}", operation_id="getDeadLetter")
def dead_letter(letter: int, _who: Viewer, engine: Database) -> WholeView:
    """One dead letter: what, why, and its inputs in short."""
    found = _found(engine, letter)
    row, windows = found[0], found[1]
    made: list[InputView] = []
    if windows is not None and windows.body:
        with _told():
            figures = summary(unpack(windows.mended or windows.body))
        names = queries.input_names(engine, windows.version_id)
        names += [str(number) for number in range(len(names), len(figures))]
        made = [InputView(tag=name, **one) for name, one in zip(names, figures, strict=False)]
    excerpt = base64.b64encode(row.excerpt).decode()
    return WholeView(**_view(found), excerpt=excerpt, readings=row.readings, inputs=made)


@router.get("/dead-letters/{letter}/inputs", operation_id="getDeadLetterInputs")
def letter_inputs(letter: int, _who: Viewer, engine: Database) -> InputsView:
    """Every kept window with its inputs, as they are now."""
    windows = _found(engine, letter)[1]
    if windows is None or not windows.body:
        raise Problem(409, "letter_conflict", "This cannot be done with the dead letter", "No windows are kept.")
    with _told():
        found = unpack(windows.mended or windows.body)
    return InputsView(
        inputs=queries.input_names(engine, windows.version_id),
        windows=[WindowInputs(**one) for one in inputs(found)],
    )


@router.put("/dead-letters/{letter}/inputs", operation_id="mendDeadLetter")
def mend(letter: int, body: Correction, who: Engineer, engine: Database) -> WholeView:
    """Replace inputs of some windows: what is computed from them is marked as overwritten by a person."""
    with _told():
        service.correct(engine, who.name, letter, _edits(body))
    return dead_letter(letter, who, engine)


def _edits(body: Correction) -> dict[int, list[list[float | None]]]:
    try:
        return {times.parse_time(one.end): one.values for one in body.windows}
    except ValueError as error:
        problem = {"pointer": "/windows", "detail": str(error)}
        raise Problem(422, "invalid_request", "The request is not valid", str(error), errors=[problem]) from error


@router.post("/dead-letters/{letter}/replay", operation_id="replayDeadLetter", status_code=202)
def replay(letter: int, body: Replay, who: Engineer, engine: Database) -> WholeView:
    """Have the windows computed again: each becomes a late revision, and raises no alarm."""
    with _told():
        service.ask(engine, who.name, letter, present=body.version == "present")
    with suppress(QueueError):
        ask_for(REPLAY_LETTERS)
    return dead_letter(letter, who, engine)


@router.post("/dead-letters/{letter}/drop", operation_id="dropDeadLetter", status_code=204)
def drop(letter: int, body: Dropping, who: Engineer, engine: Database) -> None:
    """Let go of what it holds, for good."""
    with _told():
        service.drop(engine, who.name, letter, body.reason)
