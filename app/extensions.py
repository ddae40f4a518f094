"""What msgpack has no type for: arrays, and whole numbers beyond 64 bits, in our extensions of it."""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np

ARRAY: Final = 1
BIG: Final = 2
"""msgpack extension types: a numpy array, and a whole number beyond 64 bits as decimal text."""
MAX_DIGITS: Final = 4000
"""Of a whole number beyond 64 bits: turning text into a number takes quadratic time."""
ARRAY_KINDS: Final = "biufc"


def without_big(others: list[tuple[int, object]]) -> list[tuple[int, object]]:
    """The same rows with every whole number beyond 64 bits as an extension."""
    return [(row, _small(value)) for row, value in others]


def _small(value: object) -> object:
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return msgspec.msgpack.Ext(BIG, str(value).encode())
    if isinstance(value, dict):
        return {key: _small(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_small(one) for one in value]
    return value


def extend(value: object) -> object:
    """For the encoder. TypeError for a value no contract allows."""
    if isinstance(value, np.ndarray) and value.dtype.kind in ARRAY_KINDS:
        array = np.asarray(value, dtype=value.dtype.newbyteorder("<"), order="C")
        return msgspec.msgpack.Ext(ARRAY, msgspec.msgpack.encode((array.dtype.str, array.shape, array.tobytes())))
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    message = f"a reading cannot hold a {type(value).__name__}"
    raise TypeError(message)


def contract(code: int, data: memoryview) -> object:
    """For the decoder. ValueError for what is not ours."""
    if code == ARRAY:
        kind, shape, content = msgspec.msgpack.decode(data, type=tuple[str, list[int], bytes])
        dtype = np.dtype(kind)
        if dtype.kind not in ARRAY_KINDS:
            message = f"an array of {kind} is not ours"
            raise ValueError(message)
        return np.frombuffer(content, dtype=dtype).reshape(shape).copy()
    if code == BIG and len(data) <= MAX_DIGITS:
        return int(bytes(data))
    message = f"extension {code} is not ours"
    raise ValueError(message)
