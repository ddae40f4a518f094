"""What a text payload that is no JSON seems to be: a bare value, lines of a table, or words."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import Final

from connectors.mqtt.guess import LEAVES, TIME_NAMES, Guess, Leaf, known, pointer_of, time_options
from connectors.mqtt.values import UnusableError, plain

DELIMITERS: Final = (";", "\t", ",", "|")
MOST_LINES: Final = 200
MOST_TEXT: Final = 65_536
COMMA: Final = re.compile(r"[+-]?\d{1,15},\d{1,15}", re.ASCII)
SWITCHES: Final = {"ON": True, "OFF": False}
LONGEST_EPOCH: Final = 19
"""Digits of a time in ns since 1970."""
Rows = list[list[str]]


def guess(text: str, now: int, common: Mapping[str, object]) -> Guess:
    """What a text seems to be; `common` are options that all tags of it need."""
    word = text.strip()
    if "\n" not in word and len(word) <= MOST_TEXT:
        found = _word(word, common)
        if found is not None:
            return Guess("scalar", (found,))
    return _table(text[:MOST_TEXT], now, common) or Guess("text", (Leaf("", "", text, common),))


def _word(word: str, common: Mapping[str, object]) -> Leaf | None:
    """A number, true or false, or on and off; None for any other word."""
    if word.upper() in SWITCHES:
        # As it is written: `value_map` takes a word by its letters.
        spelled = {_like(word, one): value for one, value in SWITCHES.items()}
        return Leaf("", "", spelled[word], {**common, "value_map": spelled})
    if COMMA.fullmatch(word):
        return Leaf("", "", _read(word, comma=True), {**common, "decimal_comma": True})
    value = _read(word, comma=False)
    return None if isinstance(value, str) else Leaf("", "", value, common)


def _like(word: str, other: str) -> str:
    if word.islower():
        return other.lower()
    return other if word.isupper() else other.capitalize()


def _read(word: str, *, comma: bool) -> object:
    try:
        return plain(word, decimal_comma=comma)
    except UnusableError:
        return word


def _table(text: str, now: int, common: Mapping[str, object]) -> Guess | None:
    """Lines with the same number of columns, one of them a number at least; None for anything else."""
    for delimiter in DELIMITERS:
        rows = _rows(text, delimiter)
        if rows is None:
            continue
        comma = delimiter != "," and any(COMMA.fullmatch(cell.strip()) for row in rows for cell in row)
        header = len(rows) > 1 and not _numbers(rows[0], comma=comma) and _numbers(rows[-1], comma=comma)
        if header or _numbers(rows[-1], comma=comma):
            return _columns(rows, delimiter, now, common, header=bool(header), comma=comma)
    return None


def _rows(text: str, delimiter: str) -> Rows | None:
    try:
        rows = [row for row in csv.reader(io.StringIO(text), delimiter=delimiter, strict=True) if row][:MOST_LINES]
    except csv.Error:
        return None
    widths = {len(row) for row in rows}
    return rows if len(widths) == 1 and 1 < widths.pop() <= LEAVES else None


def _numbers(row: Sequence[str], *, comma: bool) -> list[str]:
    return [cell for cell in row if isinstance(_read(cell, comma=comma), int | float)]


def _columns(
    rows: Rows, delimiter: str, now: int, common: Mapping[str, object], *, header: bool, comma: bool
) -> Guess:
    names = [name.strip() for name in rows[0]] if header else [str(n) for n in range(len(rows[0]))]
    layout: dict[str, object] = {} if delimiter == "," else {"delimiter": delimiter}
    options = {**common, **({"decimal_comma": True} if comma else {})}
    if header:
        layout["header"] = True
    if layout:
        options["layout"] = layout
    last, when = rows[-1], None
    for name, cell in sorted(zip(names, last, strict=True), key=lambda one: not known(one[0], TIME_NAMES)):
        form = time_options(_epoch(cell), now, name) or time_options(cell.strip(), now, name)
        if form is not None:
            when = name
            options |= {"time": pointer_of([name]), **form}
            break
    leaves = [
        Leaf(pointer_of([name]), name if header else f"column {name}", _read(cell, comma=comma), options)
        for name, cell in zip(names, last, strict=True)
        if name != when
    ]
    return Guess("csv", tuple(leaves))


def _epoch(cell: str) -> object:
    """A time as a number where it is written as one."""
    word = cell.strip()
    return int(word) if word.isascii() and word.isdigit() and len(word) <= LONGEST_EPOCH else word
