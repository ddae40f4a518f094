"""The classes of a plant's history: steps that follow each other, and names that are there."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from app.config.document import nearest
from app.config.tag_rows import classes_of

if TYPE_CHECKING:
    from app.config.check import Checker
    from app.plant.schemas import HistoryClass, PlantFile


def checked_classes(checker: Checker, file: PlantFile) -> dict[str, HistoryClass]:
    """Every class by name; mistakes are noted in the checker."""
    found: dict[str, HistoryClass] = {}
    for index, entry in enumerate(file.history.classes):
        place = ("history", "classes", index)
        if entry.name in found:
            checker.wrong((*place, "name"), f"the name {entry.name!r} is taken", "names are unique")
        found.setdefault(entry.name, entry)
        _steps(checker, place, entry)
    unknown(checker, ("history", "default"), file.history.default)
    return found


def unknown(checker: Checker, place: tuple[str | int, ...], name: str | None) -> None:
    """Note that there is no such class, where a name is given and stands nowhere in the file, mistaken or not."""
    names = classes_of(checker.document.data)
    if name and name not in names:
        checker.wrong(place, f"there is no class {name!r} under history", nearest(name, names))


def _steps(checker: Checker, place: tuple[str | int, ...], entry: HistoryClass) -> None:
    for at, (before, after) in enumerate(pairwise(entry.thin), 1):
        here = (*place, "thin", at)
        if after.after_days <= before.after_days:
            checker.wrong((*here, "after_days"), "the steps have to go from the youngest to the oldest")
        if after.every_s <= before.every_s or after.every_s % before.every_s:
            message = f"{after.every_s} s is no whole multiple of the {before.every_s} s of the step before"
            checker.wrong((*here, "every_s"), message, "e.g. 60, 3600, 86400")
    if entry.keep_days is not None and entry.thin and entry.keep_days <= entry.thin[-1].after_days:
        message = f"after {entry.keep_days:g} days nothing is left to be thinned"
        checker.wrong((*place, "keep_days"), message, "keep it longer than the last step's after_days")
