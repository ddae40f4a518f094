"""Whether a version is one that a runtime takes: the few signs of version specifiers that vendor files use."""

from __future__ import annotations

import re
from typing import Final

_CLAUSE: Final = re.compile(r"(>=|<=|==|~=|<|>)([0-9]+(?:\.[0-9]+)*)")


def fits(version: str, specifier: str) -> bool:
    """True if the version keeps every clause of `>=3.11,<3.13`, as far as its digits go.

    `==` and `~=` compare as many digits as they are given, `~=` all but the last (PyPA, Version specifiers). Raises
    ValueError for a specifier of another form.
    """
    return all(_keeps(_digits(version), clause.strip()) for clause in specifier.split(","))


def _digits(version: str) -> tuple[int, ...]:
    start = re.match(r"[0-9]+(?:\.[0-9]+)*", version)
    return tuple(map(int, start[0].split("."))) if start else ()


def _keeps(here: tuple[int, ...], clause: str) -> bool:
    read = _CLAUSE.fullmatch(clause)
    if read is None:
        message = f"{clause!r} is no version specifier that is understood here"
        raise ValueError(message)
    sign, wanted = read[1], _digits(read[2])
    width = max(len(here), len(wanted))
    ours, theirs = (each + (0,) * (width - len(each)) for each in (here, wanted))
    return {
        ">=": ours >= theirs, "<=": ours <= theirs, ">": ours > theirs, "<": ours < theirs,
        "==": ours[:len(wanted)] == wanted, "~=": ours >= theirs and ours[:len(wanted) - 1] == wanted[:-1],
    }[sign]
