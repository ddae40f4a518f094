"""A table of tags held against a plant file: what it would add and change, and every row that is wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from app.config import sheets
from app.config.document import Document, DocumentError, Mistake, nearest
from app.config.tag_edit import Edits
from app.config.tag_rows import attributes, cells_of, classes_of, connectors_of, entry_of, problems
from app.plant.schemas import MAX_TAGS, TagEntry, TagGroup, spread

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from app.config.sheets import Row

FIELDS: Final = ("connection", "address", "datatype", "unit", "place", "description", "options", "history")
OPTIONS: Final = "options"


@dataclass(frozen=True, slots=True)
class Known:
    """A tag that the plant file has."""

    entry: TagEntry
    line: int
    index: int | None
    """Position in `tags` of one that stands there by itself; None for one of a group or of `tags_file`."""
    where: str = ""
    """Where else it stands."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a row would do."""

    line: int
    name: str
    what: str
    """`added` or `changed`."""
    detail: str


@dataclass(slots=True)
class Plan:
    """What a table would do to a plant file."""

    changes: list[Change] = field(default_factory=list)
    same: int = 0
    mistakes: list[Mistake] = field(default_factory=list)
    added: list[dict[str, Any]] = field(default_factory=list)
    changed: dict[int, dict[str, Any]] = field(default_factory=dict)

    @property
    def edits(self) -> Edits:
        """The same for `edited`."""
        return Edits(self.added, self.changed)


def tags_of(document: Document) -> dict[str, Known]:
    """Every tag of a plant file by name, groups spread out. DocumentError where they cannot be read."""
    found: dict[str, Known] = {}
    written = document.data.get("tags") or []
    if not isinstance(written, list):
        raise DocumentError([document.at(("tags",), "tags is no list")])
    for index, one in enumerate(written):
        try:
            for known in _spread(document, index, one):
                found.setdefault(known.entry.name, known)
        except (ValidationError, ValueError) as error:
            said = error.errors(include_url=False)[0]["msg"] if isinstance(error, ValidationError) else str(error)
            raise DocumentError([document.at(("tags", index), said, "headrace check says all of it")]) from error
    where = document.data.get("tags_file")
    if isinstance(where, str):
        for known in _filed(document, where):
            found.setdefault(known.entry.name, known)
    return found


def _spread(document: Document, index: int, one: object) -> Iterator[Known]:
    line = document.at(("tags", index), "").line
    if not isinstance(one, dict) or "names" not in one:
        yield Known(TagEntry.model_validate(one), line, index)
        return
    group = TagGroup.model_validate(one)
    shared = group.model_dump(exclude={"names", "address"})
    for name in (name for pattern in group.names for name in spread(pattern)):
        address = group.address.replace("{name}", name)
        yield Known(TagEntry(name=name, address=address, **shared), line, None, f"the group in line {line}")


def _filed(document: Document, where: str) -> Iterator[Known]:
    try:
        for row in sheets.read(Path(document.file).resolve().parent / where):
            yield Known(entry_of(row), row.line, None, where)
    except (sheets.SheetError, ValueError) as error:
        raise DocumentError([document.at(("tags_file",), str(error))]) from error


def planned(document: Document, file: str, rows: Sequence[Row], connection: str = "") -> Plan:
    """What these rows would do; `connection` is that of rows which name none. DocumentError, see `tags_of`."""
    known, plan, seen = tags_of(document), Plan(), dict[str, int]()
    connectors, classes = connectors_of(document.data), classes_of(document.data)
    for row in rows:
        name = row.cells.get("name", "")
        try:
            if name in seen:
                message = f"the tag {name!r} stands here twice"
                raise ValueError(message)  # noqa: TRY301 - noted with all other mistakes
            seen[name] = row.line
            entry = entry_of(_whole(row, known.get(name), connection))
        except ValueError as error:
            plan.mistakes.append(Mistake(file, row.line, 1, str(error)))
            continue
        wrong = list(_wrong(file, row.line, entry, connectors))
        if entry.history and entry.history not in classes:
            said = f"there is no class {entry.history!r} under history"
            wrong.append(Mistake(file, row.line, 1, said, nearest(entry.history, classes)))
        wrong = wrong or _take(plan, file, row, entry, known.get(name))
        plan.mistakes += wrong
    if len(known) + len(plan.added) > MAX_TAGS:
        plan.mistakes.append(Mistake(file, 0, 0, f"there are more than {MAX_TAGS} tags"))
    return plan


def _whole(row: Row, known: Known | None, connection: str) -> Row:
    """A row with what its table does not speak of taken from the tag as it is."""
    cells = dict(row.cells)
    if known is not None:
        silent = set(sheets.COLUMNS) - row.columns
        cells |= {key: cell for key, cell in cells_of(known.entry).items() if key in silent and cell}
        cells.setdefault("connection", connection or known.entry.connection)
    elif connection:
        cells.setdefault("connection", connection)
    return sheets.Row(row.line, cells, row.columns, row.problem)


def _wrong(file: str, line: int, entry: TagEntry, connectors: dict[str, str]) -> Iterator[Mistake]:
    if entry.connection not in connectors:
        hint = nearest(entry.connection, list(connectors))
        yield Mistake(file, line, 1, f"there is no connection {entry.connection!r}", hint)
        return
    for place, message, hint in problems(entry, connectors[entry.connection]):
        yield Mistake(file, line, 1, f"{'.'.join(str(part) for part in place)}: {message}", hint)


def _take(plan: Plan, file: str, row: Row, entry: TagEntry, known: Known | None) -> list[Mistake]:
    """Note what a good row does; what cannot be done is a mistake too."""
    if known is None:
        plan.added.append(attributes(entry))
        plan.changes.append(Change(row.line, entry.name, "added", entry.address))
        return []
    keys = [key for key in FIELDS if getattr(entry, key) != getattr(known.entry, key)]
    if not keys:
        plan.same += 1
        return []
    if known.index is None:
        message = f"the tag {entry.name!r} is one of {known.where}: change it there"
        return [Mistake(file, row.line, 1, message)]
    plan.changed[known.index] = {key: _plain(getattr(entry, key)) for key in keys}
    said = [f"{key}: {getattr(known.entry, key)} → {getattr(entry, key)}" for key in keys]
    plan.changes.append(Change(row.line, entry.name, "changed", "; ".join(said)))
    return []


def _plain(value: object) -> object:
    return dict(value) if isinstance(value, dict) else value
