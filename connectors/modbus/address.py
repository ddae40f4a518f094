"""Modbus addresses as a PLC engineer writes them: table, number, and what the registers hold."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

ADDRESSES: Final = 65_536
"""Of each table (Modbus Application Protocol V1.1b3, 4.4)."""
MOST_REGISTERS: Final = 125
MOST_BITS: Final = 2000
"""Of one request (Modbus Application Protocol V1.1b3, 6.1 to 6.4)."""
LONGEST_ADDRESS: Final = 64
LONGEST_TEXT: Final = 2 * MOST_REGISTERS
BITS_OF_REGISTER: Final = 16
BITS: Final = frozenset({"coil", "discrete"})
CLASSICAL: Final = {"0": "coil", "1": "discrete", "3": "input", "4": "holding"}
TYPES: Final[dict[str, tuple[int, str]]] = {
    "int16": (1, "h"),
    "uint16": (1, "H"),
    "int32": (2, "i"),
    "uint32": (2, "I"),
    "int64": (4, "q"),
    "uint64": (4, "Q"),
    "float32": (2, "f"),
    "float64": (4, "d"),
}
"""Type -> registers, and its code in `struct`."""
PATTERN: Final = re.compile(
    r"(?:(?P<table>coil|discrete|input|holding):(?P<number>\d{1,5})|(?P<classical>[0134]\d{4,5}))"
    r"(?:\.(?P<bit>\d{1,2})|:(?P<type>u?int(?:16|32|64)|float(?:32|64))|:string\((?P<length>\d{1,3})\))?"
)
HOW: Final = (
    "write `holding:100`, `input:30:float32`, `holding:7.3` (a bit), `holding:40:string(16)`, `coil:5` or `discrete:7`,"
    " counted from 0; or classically `40101`, counted from 1"
)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a tag lives and what it is there."""

    table: str
    start: int
    """Counted from 0, as on the wire."""
    count: int
    code: str
    """In `struct`; `bit` or `string` where that knows none."""
    part: int = 0
    """Which bit of a register, 0 the lowest; how many bytes of a string."""


def parse(text: str) -> Address:
    """A tag's address. ValueError says what is wrong and how to write it."""
    found = PATTERN.fullmatch(text) if len(text) <= LONGEST_ADDRESS and text.isascii() else None
    if found is None:
        message = f"{text[:LONGEST_ADDRESS]!r} is no Modbus address: {HOW}"
        raise ValueError(message)
    classical = found["classical"]
    table = CLASSICAL[classical[0]] if classical else found["table"]
    start = int(classical[1:]) - 1 if classical else int(found["number"])
    where, wrong = _in_bits(table, start, found) if table in BITS else _in_registers(table, start, found)
    if not wrong and not 0 <= where.start <= ADDRESSES - where.count:
        first = 1 if classical else 0
        wrong = f"a table has the addresses {first} to {ADDRESSES - 1 + first}"
    if wrong:
        message = f"{text!r}: {wrong}"
        raise ValueError(message)
    return where


def check(address: str) -> str | None:
    """What is wrong with an address and how to write it, or None."""
    try:
        parse(address)
    except ValueError as error:
        return str(error)
    return None


def _in_bits(table: str, start: int, found: re.Match[str]) -> tuple[Address, str]:
    typed = found["bit"] or found["type"] or found["length"]
    return Address(table, start, 1, "bit"), f"a {table} is one bit and has no type" if typed else ""


def _in_registers(table: str, start: int, found: re.Match[str]) -> tuple[Address, str]:
    if found["bit"]:
        bit = int(found["bit"])
        wrong = "" if bit < BITS_OF_REGISTER else f"the bits of a register go from 0 to {BITS_OF_REGISTER - 1}"
        return Address(table, start, 1, "bit", bit), wrong
    if found["length"]:
        length = int(found["length"])
        wrong = "" if 1 <= length <= LONGEST_TEXT else f"a string has 1 to {LONGEST_TEXT} bytes, two to a register"
        return Address(table, start, (length + 1) // 2, "string", length), wrong
    count, code = TYPES[found["type"] or "uint16"]
    return Address(table, start, count, code), ""
