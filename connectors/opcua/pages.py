"""HistoryReadResponse decoder (IEC 62541-4, 5.11.3; 62541-11, 6.6.2): pages of values, each with where it goes on."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.ua_binary import nodeid_from_binary, struct_from_binary
from asyncua.ua.uaerrors import UaStatusCodeError

from connectors.opcua.decode import DECODING_ERRORS, Changes, UndecodableError, decode_values

if TYPE_CHECKING:
    from collections.abc import Callable

HISTORY_DATA: Final = ObjectIds.HistoryData_Encoding_DefaultBinary
LONGEST_POINT: Final = 64 * 1024
"""Bytes of a continuation point: it is the server's, and we send it back."""
SMALLEST_RESULT: Final = 11
"""Bytes of a result: status, absent continuation point, absent data."""
BINARY: Final = 1


@dataclass(frozen=True, slots=True)
class Result:
    """What the server says of one node."""

    status: int
    point: bytes
    """Where it goes on; empty when this was all."""
    values: Changes | None
    """None where there is no data. Their `handles` mean nothing."""


def results(answer: Buffer, on_broken: Callable[[str, int], None]) -> list[Result]:
    """Every result, in the order asked. `on_broken`: why, and how many values of a page could not be decoded.

    Raises UaStatusCodeError for a bad service result, UndecodableError for broken bytes.
    """
    data = bytes(answer)
    try:
        buffer = Buffer(data)
        nodeid_from_binary(buffer)
        struct_from_binary(ua.ResponseHeader, buffer).ServiceResult.check()
        (count,) = struct.unpack("<i", buffer.read(4))
        # No more than fit: whoever asked sees that they are too few.
        return [_result(buffer, on_broken) for _ in range(min(count, len(data) // SMALLEST_RESULT))]
    except (UaStatusCodeError, UndecodableError):
        raise
    except DECODING_ERRORS as error:
        message = f"a HistoryReadResponse that cannot be read: {error}"
        raise UndecodableError(message) from error


def _result(buffer: Buffer, on_broken: Callable[[str, int], None]) -> Result:
    (status,) = struct.unpack("<I", buffer.read(4))
    point = _bytes(buffer)
    if len(point) > LONGEST_POINT:
        message = f"a continuation point of {len(point)} bytes"
        raise UndecodableError(message)
    kind = nodeid_from_binary(buffer)
    if buffer.read(1)[0] != BINARY:
        return Result(status, point, None)
    body = _bytes(buffer)
    if kind.NamespaceIndex != 0 or kind.Identifier != HISTORY_DATA or len(body) < struct.calcsize("<i"):
        return Result(status, point, None)
    (count,) = struct.unpack_from("<i", body)
    return Result(status, point, decode_values(body, 0, lambda error: on_broken(str(error), count - error.done)))


def _bytes(buffer: Buffer) -> bytes:
    """A ByteString; empty where it is absent."""
    (length,) = struct.unpack("<i", buffer.read(4))
    return buffer.read(length) if length > 0 else b""
