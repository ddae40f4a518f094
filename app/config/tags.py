"""The tags of a plant file: groups and ranges spread out, CSV read, addresses checked by their connector."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any, Final

import msgspec
from pydantic import ValidationError

import connectors
from app.config.desired import WantedConnection, WantedTag
from app.config.document import nearest
from app.plant.schemas import MAX_TAGS, PlantFile, TagEntry, TagGroup, spread

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from app.config.check import Checker, Place

COLUMNS: Final = ("name", "connection", "address", "datatype", "unit", "place", "description", "options")
MAX_CSV: Final = 64 * 2**20


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
        yield from _csv(checker, file.tags_file)


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


def _csv(checker: Checker, where: str) -> Iterator[tuple[Place, TagEntry]]:
    if checker.sent is not None:
        checker.wrong(("tags_file",), "a file sent over the API cannot name files", "write the tags into it")
        return
    path = checker.base / where
    checker.tags_file = str(path)
    try:
        raw = path.read_bytes()[: MAX_CSV + 1]
        text = raw.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        checker.wrong(("tags_file",), f"{where} cannot be read: {error}", "save it as UTF-8")
        return
    reader = csv.DictReader(io.StringIO(text))
    unknown = [name for name in reader.fieldnames or () if name not in COLUMNS]
    if len(raw) > MAX_CSV or unknown or not {"name", "connection", "address"} <= set(reader.fieldnames or ()):
        checker.wrong(("tags_file",), f"the columns of {where} do not fit", f"columns: {', '.join(COLUMNS)}")
        return
    for row in reader:
        entry = _row(checker, reader.line_num, row)
        if entry is not None:
            yield ("tags_file", reader.line_num), entry


def _row(checker: Checker, line: int, row: dict[str, Any]) -> TagEntry | None:
    given: dict[str, Any] = {name: value for name, value in row.items() if value and name is not None}
    try:
        if "options" in given:
            given["options"] = msgspec.json.decode(given["options"])
        return TagEntry.model_validate(given)
    except (ValidationError, msgspec.DecodeError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": ("options",), "msg": str(error)}
        checker.wrong(("tags_file", line), f"{'.'.join(str(p) for p in first['loc'])}: {first['msg']}")
        return None


def _valid(checker: Checker, place: Place, entry: TagEntry, connector: str) -> bool:
    """Whether the connector takes the address and the options."""
    try:
        module = connectors.load(connector)
    except (KeyError, connectors.NotInstalledError):
        return True  # said at the connection
    wrong = module.check_address(entry.address)
    if wrong is not None:
        checker.wrong((*place, "address"), wrong)
    try:
        module.TagOptions.model_validate(entry.options)
    except ValidationError as error:
        for one in error.errors(include_input=False, include_url=False):
            at = [part for part in one["loc"] if isinstance(part, str | int)]
            extra = one["type"] == "extra_forbidden"
            hint = nearest(str(at[-1]), list(module.TagOptions.model_fields)) if extra else ""
            checker.wrong((*place, "options", *at), f"unknown key {at[-1]!r}" if extra else str(one["msg"]), hint)
        return False
    return wrong is None
