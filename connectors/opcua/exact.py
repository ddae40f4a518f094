"""Values of ours in the types of a server, exactly or not at all (IEC 62541-6, table 1)."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
from asyncua import ua

from connectors.opcua.columns import NAMES
from connectors.opcua.variant import FILETIME_UNIX

INTEGERS: Final[dict[int, tuple[int, int]]] = {
    2: (-(2**7), 2**7 - 1),
    3: (0, 2**8 - 1),
    4: (-(2**15), 2**15 - 1),
    5: (0, 2**16 - 1),
    6: (-(2**31), 2**31 - 1),
    7: (0, 2**32 - 1),
    8: (-(2**63), 2**63 - 1),
    9: (0, 2**64 - 1),
}
"""Built-in type -> the least and the greatest value."""
EPOCH: Final = datetime(1601, 1, 1, tzinfo=UTC)
LAST: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
LONGEST: Final = 1024 * 1024
"""Bytes of a text or of a ByteString that is written."""
ARRAYS: Final = (list, tuple, np.ndarray)
MOST: Final = 100_000
"""Elements of an array that is written."""
SHOWN: Final = 100


def variant(kind: int, value: object, *, is_array: bool) -> ua.Variant:
    """A Variant of this built-in type that holds the value exactly. Raises ValueError that says why it cannot."""
    convert = CONVERSIONS.get(kind)
    name = NAMES[kind] if 0 < kind < len(NAMES) else str(kind)
    if convert is None:
        message = f"values of the type {name} are not written"
        raise ValueError(message)
    if not is_array:
        return ua.Variant(_checked(convert, name, value), ua.VariantType(kind))
    items = value.tolist() if isinstance(value, np.ndarray) else value
    if not isinstance(items, list | tuple) or len(items) > MOST:
        message = f"{str(value)[:SHOWN]} is no array of {name} with at most {MOST} elements"
        raise ValueError(message)
    return ua.Variant([_checked(convert, name, one) for one in items], ua.VariantType(kind), is_array=True)


def _checked(convert: Callable[[Any], object], name: str, value: object) -> object:
    plain = value.item() if isinstance(value, np.generic) else value
    try:
        return convert(plain)
    except (TypeError, ValueError, OverflowError) as error:
        message = f"{value!r} is no {name}: {error}"
        raise ValueError(message) from error


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        message = "true or false is wanted"
        raise TypeError(message)
    return value


def _number(value: object) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        message = "a number is wanted"
        raise TypeError(message)
    if not np.isfinite(float(value)):
        message = "it is not finite"
        raise ValueError(message)
    return value


def _integer(least: int, greatest: int) -> Callable[[object], int]:
    def convert(value: object) -> int:
        number = value if isinstance(value, int) and not isinstance(value, bool) else _number(value)
        if number != int(number):
            message = "it has a fraction"
            raise ValueError(message)
        if not least <= number <= greatest:
            message = f"it goes from {least} to {greatest}"
            raise ValueError(message)
        return int(number)

    return convert


def _double(value: object) -> float:
    number = _number(value)
    if float(number) != number:
        message = "it has more digits than the type holds"
        raise ValueError(message)
    return float(number)


def _float(value: object) -> float:
    """A number whose written digits a Float keeps: 0.1 is one, 16777217 and 0.123456789 are none."""
    number = _double(value)
    with np.errstate(over="ignore"):
        held = np.float32(number)
    if not np.isfinite(held):
        message = "it is beyond what the type holds"
        raise ValueError(message)
    if float(str(held)) != number and float(held) != number:
        message = "it has more digits than the type holds"
        raise ValueError(message)
    return float(held)


def _string(value: object) -> str:
    if not isinstance(value, str):
        message = "a text is wanted"
        raise TypeError(message)
    if len(value.encode()) > LONGEST:
        message = f"it is longer than {LONGEST} bytes"
        raise ValueError(message)
    return value


def _bytes(value: object) -> bytes:
    if not isinstance(value, bytes):
        message = "bytes are wanted"
        raise TypeError(message)
    if len(value) > LONGEST:
        message = f"it is longer than {LONGEST} bytes"
        raise ValueError(message)
    return value


def _moment(value: object) -> datetime:
    """From ns since 1970 UTC; asyncua sends whole microseconds."""
    if isinstance(value, bool) or not isinstance(value, int):
        message = "ns since 1970 are wanted"
        raise TypeError(message)
    if value % 1000:
        message = "it is not a whole number of microseconds"
        raise ValueError(message)
    moment = EPOCH + timedelta(microseconds=value // 1000 + FILETIME_UNIX // 10)
    if not EPOCH <= moment <= LAST:
        message = "it lies outside 1601 to 9999"
        raise ValueError(message)
    return moment


CONVERSIONS: Final[dict[int, Callable[[Any], object]]] = {
    1: _boolean,
    **{kind: _integer(*limits) for kind, limits in INTEGERS.items()},
    10: _float,
    11: _double,
    12: _string,
    13: _moment,
    14: lambda value: uuid.UUID(_string(value)),
    15: _bytes,
    21: lambda value: ua.LocalizedText(_string(value)),
}
