"""The tags of a plant file: groups and ranges spread out, tables read, addresses checked by their connector."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from app.config import sheets, tag_rows
from app.config.classes import unknown
from app.config.desired import WantedConnection, WantedTag
from app.config.document import nearest
from app.plant.schemas import MAX_TAGS, PlantFile, TagEntry, TagGroup, spread

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from app.config.check import Checker, Place


def spread_tags(checker: Checker, file: PlantFile, known: Mapping[str, WantedConnection]) -> dict[str, WantedTag]:
    """Every tag by name; mistakes are noted in the checker."""
    found: dict[str, WantedTag] = {}
    for place, entry in _entries(checker, file):
        checker.declared.add(entry.name)
        if entry.connection not in known:
            checker.wrong(
                (*place, "connection"),
                f"there is no connection {entry.connection!r}",
                nearest(entry.connection, list(known)),
            )
            continue
        if not _valid(checker, place, entry, known[entry.connection].connector):
            continue
        unknown(checker, (*place, "history"), entry.history)
        if entry.name in found:
            checker.wrong((*place, "name"), f"the tag {entry.name!r} stands here twice", "names are unique")
        elif len(found) >= MAX_TAGS:
            checker.wrong(place, f"there are more than {MAX_TAGS} tags")
            return found
        else:
            found[entry.name] = WantedTag(
                entry.name,
                entry.connection,
                entry.address,
                entry.datatype,
                entry.unit,
                entry.place,
                entry.description,
                entry.options,
                entry.history or known[entry.connection].history or file.history.default or "",
            )
    return found


def _entries(checker: Checker, file: PlantFile) -> Iterator[tuple[Place, TagEntry]]:
    written = list(checker.document.data.get("tags") or [])
    position = 0
    for entry in file.tags:
        position = _position(written, entry, position)
        place: Place = ("tags", position)
        if isinstance(entry, TagEntry):
            yield place, entry
        else:
            yield from _grouped(checker, place, entry)
        position += 1
    if file.tags_file is not None:
        yield from _sheet(checker, file.tags_file)


def _position(written: list[Any], entry: TagEntry | TagGroup, since: int) -> int:
    """Where in the document an entry stands: those that did not validate are passed over."""
    key = "names" if isinstance(entry, TagGroup) else "name"
    wanted = getattr(entry, key)
    for index in range(since, len(written)):
        if isinstance(written[index], dict) and written[index].get(key) == wanted:
            return index
    return since


def _grouped(checker: Checker, place: Place, group: TagGroup) -> Iterator[tuple[Place, TagEntry]]:
    if "{name}" not in group.address:
        checker.wrong((*place, "address"), "the address of a group needs {name} where the name belongs")
        return
    shared = group.model_dump(exclude={"names", "address"})
    for index, pattern in enumerate(group.names):
        try:
            names = spread(pattern)
        except ValueError as error:
            checker.wrong((*place, "names", index), str(error))
            continue
        for name in names:
            try:
                yield (
                    (*place, "names", index),
                    TagEntry(name=name, address=group.address.replace("{name}", name), **shared),
                )
            except ValidationError:
                checker.wrong((*place, "names", index), f"{name!r} is no name", "no /, # or +, at most 100 characters")


def _sheet(checker: Checker, where: str) -> Iterator[tuple[Place, TagEntry]]:
    if checker.sent is not None:
        checker.wrong(("tags_file",), "a file sent over the API cannot name files", "write the tags into it")
        return
    path = checker.base / where
    checker.tags_file = str(path)
    try:
        rows = sheets.read(path)
    except sheets.SheetError as error:
        checker.wrong(("tags_file",), str(error))
        return
    for row in rows:
        try:
            yield ("tags_file", row.line), tag_rows.entry_of(row)
        except ValueError as error:
            checker.wrong(("tags_file", row.line), str(error))


def _valid(checker: Checker, place: Place, entry: TagEntry, connector: str) -> bool:
    """Whether the connector takes the address and the options."""
    wrong = list(tag_rows.problems(entry, connector))
    for where, message, hint in wrong:
        checker.wrong((*place, *where), message, hint)
    return not wrong
