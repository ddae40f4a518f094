"""What a value in a payload means for a tag: a number, what `others` holds, a status, or why it cannot be taken."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import numpy as np

from connectors import Status

EXACT: Final = 2**53
WIDEST: Final = 2**64
BAD: Final = 2
LARGEST_CODE: Final = 0xFFFFFFFF
QUALITIES: Final[dict[str, int]] = {"good": Status.GOOD, "uncertain": Status.UNCERTAIN, "bad": Status.BAD}
WHOLE_NUMBER: Final = re.compile(r"[+-]?\d{1,400}", re.ASCII)
NUMBER: Final = re.compile(r"[+-]?(\d{1,400}(\.\d{0,400})?|\.\d{1,400})([eE][+-]?\d{1,4})?", re.ASCII)
NO_NUMBER: Final = frozenset({"nan", "inf", "infinity"})
"""How programs write what is no number, after a sign and in any case."""
TRUTH: Final = {"true": True, "false": False}

Scalar = bool | int | float | str


class UnusableError(ValueError):
    """Something in a payload that cannot become a reading; `reason` is the ledger's word for it."""

    def __init__(self, reason: str, detail: str) -> None:
        """`detail` is for the operator."""
        super().__init__(detail)
        self.reason = reason


def is_bad(status: int) -> bool:
    """Whether a reading of this status needs no value."""
    return status >> 30 >= BAD


def value_of(value: object, datatype: str, *, bad: bool) -> tuple[float, object | None]:
    """A value as a number, or NaN and what `others` holds. UnusableError; a Bad reading may lack its value."""
    if type(value) is float and datatype == "float" and math.isfinite(value):
        return value, None  # nearly every reading: what follows costs three times as much
    if value is None:
        if bad:
            return math.nan, None
        reason, detail = "missing_value", "null with a quality that is not Bad"
        raise UnusableError(reason, detail)
    kind = _kind(value)
    if kind not in ACCEPTED[datatype] or (
        datatype == "integer" and isinstance(value, float) and math.isfinite(value) and not value.is_integer()
    ):
        reason = "wrong_type"
        raise UnusableError(
            reason,
            f"the payload has {kind}, the tag is configured as {datatype}: change the tag's datatype, its address or "
            "`value_map`",
        )
    if isinstance(value, bool):
        return float(value), None
    if isinstance(value, int | float):
        return _number(value)
    return math.nan, _array(value) if isinstance(value, list) else value


ACCEPTED: Final[dict[str, frozenset[str]]] = {
    "float": frozenset({"a number"}),
    "integer": frozenset({"a number"}),
    "boolean": frozenset({"a boolean"}),
    "string": frozenset({"a string"}),
    "array": frozenset({"an array"}),
    "any": frozenset({"a number", "a boolean", "a string", "an array", "an object", "bytes"}),
}


def _kind(value: object) -> str:
    names = (
        (bool, "a boolean"),
        (int, "a number"),
        (float, "a number"),
        (str, "a string"),
        (list, "an array"),
        (bytes, "bytes"),
    )
    return next((name for kind, name in names if isinstance(value, kind)), "an object")


def _number(value: float) -> tuple[float, object | None]:
    if isinstance(value, int) and not -EXACT <= value <= EXACT:
        if not -WIDEST // 2 <= value < WIDEST:
            reason, detail = "wrong_type", "an integer of more than 64 bits"
            raise UnusableError(reason, detail)
        return math.nan, value
    if not math.isfinite(value):
        reason, detail = "not_finite", "a number that is not finite"
        raise UnusableError(reason, detail)
    return float(value), None


def _array(value: list[object]) -> object:
    if value and all(type(item) in (int, float) for item in value):
        try:
            return np.array(value, dtype=np.float64)
        except OverflowError:
            return value
    return value


def status_of(value: object, quality_map: Mapping[str, int]) -> int:
    """The StatusCode a payload's quality means. Raises UnusableError."""
    mapped = quality_map.get(value if isinstance(value, str) else str(value)) if quality_map else None
    if mapped is not None:
        return mapped
    if isinstance(value, str) and value.lower() in QUALITIES:
        return QUALITIES[value.lower()]
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_CODE:
        return value
    reason = "unknown_quality"
    raise UnusableError(
        reason, f"{str(value)[:80]!r} is neither Good, Uncertain, Bad nor a StatusCode: set `quality_map`"
    )


Convert = Callable[[object], object]
"""What a tag does with a value of a payload before its type is checked."""


def converter(value_map: Mapping[str, Scalar], datatype: str, *, untyped: bool, decimal_comma: bool) -> Convert | None:
    """How a tag reads a value: text of an `untyped` layout by its datatype, `value_map` first; None when as it is."""
    if untyped:
        return partial(_spoken, value_map, datatype, decimal_comma)
    return partial(_mapped, value_map) if value_map else None


def _mapped(value_map: Mapping[str, Scalar], value: object) -> object:
    if isinstance(value, bool):
        return value_map.get(str(value).lower(), value)
    return value_map.get(str(value), value) if isinstance(value, str | int | float) else value


def _spoken(value_map: Mapping[str, Scalar], datatype: str, decimal_comma: bool, value: object) -> object:  # noqa: FBT001 - bound by position
    if not isinstance(value, str):
        return value
    mapped = value_map.get(value.strip())
    if mapped is not None:
        return mapped
    return value if datatype == "string" else plain(value, decimal_comma=decimal_comma)


def plain(text: str, *, decimal_comma: bool = False) -> object:
    """What a bare word says: a number, true or false, else the text itself. UnusableError when there is none."""
    word = text.strip()
    if not word:
        reason, detail = "missing_value", "an empty text where a value should be: set `optional` if that is usual"
        raise UnusableError(reason, detail)
    if WHOLE_NUMBER.fullmatch(word):
        return int(word)
    pointed = word.replace(",", ".") if decimal_comma and "." not in word else word
    if NUMBER.fullmatch(pointed) and not (decimal_comma and "." in word):
        return float(pointed)
    if word.lstrip("+-").lower() in NO_NUMBER:
        return float(word) if word[1:2] not in "+-" or len(word) == 1 else text
    return TRUTH.get(word.lower(), text)
