"""Arrays to bytes and back for snapshots: little-endian, typed and measured, never pickle."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from inference.resample import Readings
from inference.windower_spec import FLAWS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Scalar = TypeVar("Scalar", bound=np.generic)
Packed = tuple[list[int], bytes]
"""Shape and content; the element type is known to the reader."""

def pack(array: NDArray[Any]) -> Packed:
    """Row-major, little-endian."""
    return list(array.shape), array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def pack_fields(columns: object) -> list[Packed]:
    """The arrays of a dataclass or of a class with slots, in their order."""
    names = [one.name for one in fields(columns)] if is_dataclass(columns) else type(columns).__slots__  # type: ignore[attr-defined]
    return [pack(getattr(columns, name)) for name in names]


def unpack(packed: Packed, kind: type[Scalar], shape: Sequence[int | None]) -> NDArray[Scalar]:
    """An array of its own of this element type; None in `shape` is free. Raises ValueError when it does not fit."""
    found, content = packed
    if len(found) != len(shape) or any(want not in {None, has} for want, has in zip(shape, found, strict=True)):
        message = f"an array of shape {found} stands where {list(shape)} is needed"
        raise ValueError(message)
    array = np.frombuffer(content, dtype=np.dtype(kind).newbyteorder("<")).reshape(found)
    return array.astype(kind)


def unpack_readings(packed: list[Packed], columns: int) -> Readings:
    """Readings of a windower with so many columns. Raises ValueError when they are not."""
    if len({tuple(shape) for shape, _ in packed}) != 1:
        message = "the columns of the readings differ in length"
        raise ValueError(message)
    column, time, value, status, flaw = packed
    readings = Readings(
        unpack(column, np.uint16, (None,)), unpack(time, np.int64, (None,)), unpack(value, np.float64, (None,)),
        unpack(status, np.uint32, (None,)), unpack(flaw, np.uint8, (None,)),
    )
    if len(readings) and (readings.column.max() >= columns or readings.flaw.max() >= len(FLAWS)):
        message = "the readings belong to inputs the spec does not have"
        raise ValueError(message)
    return readings
