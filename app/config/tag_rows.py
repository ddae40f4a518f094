"""A row of a table as a tag of a plant file, held to what the file itself is held to; and a tag as a row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
from pydantic import ValidationError

import connectors
from app.config.document import nearest
from app.plant.schemas import TagEntry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from app.config.sheets import Row

Problem = tuple[tuple[str | int, ...], str, str]
"""Place within the tag, message, hint."""
PLAIN: Final = ("name", "connection", "address", "datatype", "unit", "place", "description", "history")
DEFAULTS: Final = {"datatype": "float"}


def entry_of(row: Row, connection: str = "") -> TagEntry:
    """The tag a row means; `connection` is that of a row which names none. ValueError says what is wrong with it."""
    given: dict[str, Any] = dict(row.cells)
    if row.problem:
        raise ValueError(row.problem)
    if connection:
        given.setdefault("connection", connection)
    try:
        if "options" in given:
            given["options"] = msgspec.json.decode(given["options"])
        return TagEntry.model_validate(given)
    except msgspec.DecodeError as error:
        message = f'options: {error}; write JSON, e.g. {{"queue_size": 10}}'
        raise ValueError(message) from error
    except ValidationError as error:
        said = [f"{'.'.join(str(p) for p in one['loc'])}: {one['msg']}" for one in error.errors(include_url=False)]
        raise ValueError("; ".join(said)) from error


def attributes(entry: TagEntry) -> dict[str, Any]:
    """What a plant file says of a tag, without what it need not say."""
    found = {key: getattr(entry, key) for key in PLAIN}
    return {key: value for key, value in found.items() if value not in ("", DEFAULTS.get(key))} | (
        {"options": dict(entry.options)} if entry.options else {}
    )


def cells_of(entry: TagEntry) -> dict[str, str]:
    """A tag as a row of a table; options as JSON."""
    options = {"options": msgspec.json.encode(entry.options).decode()} if entry.options else {}
    return {key: getattr(entry, key) for key in PLAIN} | options


def problems(entry: TagEntry, connector: str) -> Iterator[Problem]:
    """What the connector refuses of a tag: its address, its options. None where the connector itself is missing."""
    try:
        module = connectors.load(connector)
    except (KeyError, connectors.NotInstalledError):
        return  # said at the connection
    wrong = module.check_address(entry.address)
    if wrong is not None:
        yield ("address",), wrong, ""
    try:
        module.TagOptions.model_validate(entry.options)
    except ValidationError as error:
        known = list(module.TagOptions.model_fields)
        for one in error.errors(include_input=False, include_url=False):
            at = tuple(part for part in one["loc"] if isinstance(part, str | int))
            extra = one["type"] == "extra_forbidden"
            hint = nearest(str(at[-1]), known) if extra else ""
            yield ("options", *at), f"unknown key {at[-1]!r}" if extra else str(one["msg"]), hint


def connectors_of(data: Mapping[str, Any]) -> dict[str, str]:
    """Connection to connector, of a plant file's data as it is written."""
    written = data.get("connections")
    entries = [one for one in written if isinstance(one, dict)] if isinstance(written, list) else []
    return {str(one.get("name")): str(one.get("connector")) for one in entries}


def classes_of(data: Mapping[str, Any]) -> list[str]:
    """Names of the classes of the history, of a plant file's data as it is written."""
    written = data.get("history")
    classes = written.get("classes") if isinstance(written, dict) else None
    entries = [one for one in classes if isinstance(one, dict)] if isinstance(classes, list) else []
    return [str(one.get("name")) for one in entries]
