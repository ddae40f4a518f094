"""One message's payload: unpacked, decoded and parsed at most once, however many tags look into it."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar, cast

import msgspec

from connectors.mqtt.values import UnusableError

if TYPE_CHECKING:
    from connectors.mqtt.options import TagOptions

GZIP_MAGIC: Final = b"\x1f\x8b"
GZIP_BITS: Final = 31
"""zlib's number for a gzip header and the largest window."""
MARK: Final = "\ufeff"
"""Byte order mark, which some programs put before any text."""
UTF_8: Final = "utf-8"
MARK_UTF_8: Final = MARK.encode(UTF_8)
T = TypeVar("T")


class Packing(NamedTuple):
    """How the bytes of a payload become a text."""

    compression: str | None
    most_bytes: int
    """What it may unpack to."""
    charset: str

    @classmethod
    def of(cls, options: TagOptions) -> Packing:
        """That of a tag."""
        return cls(options.compression, options.max_unpacked_bytes, options.charset)


class Body:
    """A payload and when it came. Each method raises UnusableError, the same again when asked again."""

    __slots__ = ("_made", "payload", "received")

    def __init__(self, payload: bytes, received: int) -> None:
        """`received` is ns since 1970 UTC."""
        self.payload = payload
        self.received = received
        self._made: dict[tuple[str, Packing], object] = {}

    def unpacked(self, packing: Packing) -> bytes:
        """The bytes, without compression."""
        if packing.compression is None:
            return self.payload
        return self._once("bytes", packing, lambda: _gunzip(self.payload, packing.most_bytes))

    def text(self, packing: Packing) -> str:
        """The text, without a byte order mark."""
        return self._once("text", packing, lambda: _decoded(self.unpacked(packing), packing.charset))

    def json(self, packing: Packing) -> object:
        """The JSON document."""
        return self._once("json", packing, lambda: self._parsed(packing))

    def _parsed(self, packing: Packing) -> object:
        content: bytes | str = self.unpacked(packing) if packing.charset == UTF_8 else self.text(packing)
        try:
            return msgspec.json.decode(content)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
            if isinstance(content, bytes) and content.startswith(MARK_UTF_8):
                return self._parsed_text(packing)
            raise self._why_no_json(packing, error) from error

    def _parsed_text(self, packing: Packing) -> object:
        try:
            return msgspec.json.decode(self.text(packing))
        except (msgspec.DecodeError, RecursionError) as error:
            raise self._why_no_json(packing, error) from error

    def _why_no_json(self, packing: Packing, error: Exception) -> UnusableError:
        if packing.compression is None and self.payload.startswith(GZIP_MAGIC):
            return UnusableError("broken_json", "the payload is gzip: set `compression: gzip`")
        try:
            self.text(packing)
        except UnusableError as problem:
            return problem
        return UnusableError("broken_json", f"the payload is not JSON: {error}; see its beginning and set `format`")

    def _once(self, what: str, packing: Packing, make: Callable[[], T]) -> T:
        key = what, packing
        if key not in self._made:
            try:
                self._made[key] = make()
            except UnusableError as problem:
                self._made[key] = problem
        found = self._made[key]
        if isinstance(found, UnusableError):
            raise found
        return cast("T", found)


def _decoded(content: bytes, charset: str) -> str:
    try:
        return content.decode(charset).removeprefix(MARK)
    except UnicodeDecodeError as error:
        reason = "wrong_charset"
        raise UnusableError(
            reason, f"the payload is not {charset}: {error.reason} at byte {error.start}; set `charset`, e.g. gbk"
        ) from error


def _gunzip(content: bytes, most: int) -> bytes:
    """All members of a gzip file (RFC 1952, 2.2), which never become more than `most` bytes."""
    found = bytearray()
    rest = content
    while True:
        if not rest.startswith(GZIP_MAGIC):
            reason, what = "broken_gzip", "has bytes after its end" if found else "is not gzip"
            raise UnusableError(reason, f"the payload {what}: correct the publisher, or the tag's `compression`")
        member = zlib.decompressobj(GZIP_BITS)
        try:
            found += member.decompress(rest, most - len(found) + 1)
        except zlib.error as error:
            reason = "broken_gzip"
            raise UnusableError(reason, f"the payload cannot be unpacked: {error}; correct the publisher") from error
        if len(found) > most:
            reason = "too_large"
            raise UnusableError(reason, f"the payload unpacks to more than {most} bytes (`max_unpacked_bytes`)")
        if not member.eof:
            reason = "broken_gzip"
            raise UnusableError(reason, "the payload ends before its gzip does: it was cut on the way")
        rest = member.unused_data
        if not rest:
            return bytes(found)
