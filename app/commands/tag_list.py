"""A list of tags that a command found, named and written to the file that was asked for."""

from __future__ import annotations

import re
from collections import Counter
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from pydantic import ValidationError

from app.commands.console import fail, out, t
from app.config import sheets
from app.config.tag_rows import attributes, cells_of
from app.plant.schemas import TagEntry

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

TagList = Annotated[Path | None, typer.Option(help="Write a tag list here: .csv, .xlsx or .yaml.")]
LONGEST: Final = 100
ROOM: Final = 8
"""For a number behind a name."""
NOT_IN_NAMES: Final = re.compile(r"[/#+\x00-\x1f]|^\s|\s$")


def named(paths: Sequence[tuple[str, ...]]) -> list[str]:
    """A name for each path that no other has: as much of its end as it takes, numbered where all of it is alike."""
    plain = [tuple(NOT_IN_NAMES.sub("_", part) or "_" for part in path) for path in paths]
    found: dict[int, str] = {}
    taken: set[str] = set()
    for size in range(1, max(map(len, plain), default=0) + 1):
        tried = {n: ".".join(path[-size:])[-LONGEST:] for n, path in enumerate(plain) if n not in found}
        often = Counter(tried.values())
        # A cut may leave a blank in front, which no name begins with.
        alone = {n: name for n, name in tried.items() if often[name] == 1 and name not in taken}
        found |= {n: name for n, name in alone.items() if name == name.strip()}
        taken |= set(found.values())
    for n, path in enumerate(plain):
        if n not in found:
            base = ".".join(path)[: LONGEST - ROOM].strip()
            found[n] = next(name for number in count(1) if (name := f"{base}_{number}") not in taken)
            taken.add(found[n])
    return [found[n] for n in range(len(plain))]


def write(file: Path, tags: Iterable[Mapping[str, Any]], *, json_wanted: bool) -> None:
    """Write these as a table or as YAML. Ends the command when that cannot be done."""
    entries = []
    for one in tags:
        try:
            entries.append(TagEntry.model_validate({**one, "unit": str(one.get("unit", ""))[:40]}))
        except ValidationError as error:
            said = error.errors(include_url=False)[0]["msg"]
            raise fail(": ".join((str(one["address"]), said))) from error
    try:
        sheets.write(file, [cells_of(one) for one in entries], [attributes(one) for one in entries])
    except (sheets.SheetError, OSError) as error:
        raise fail(str(error)) from error
    if not json_wanted:
        out.print(t("{count} tags are in {file}.", count=len(entries), file=file), markup=False)
