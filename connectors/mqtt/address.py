"""A tag's address on a broker: `TOPIC#POINTER`, an exact topic and a JSON Pointer (RFC 6901) into its payload."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

HOW: Final = (
    "write `plant/analyser/feed#/values/XMEAS_23`: an exact topic, `#`, a JSON Pointer; "
    "without `#` the payload is the value"
)
LONGEST_TOPIC: Final = 65_535
"""Bytes (MQTT 5, 1.5.4)."""
BAD_ESCAPE: Final = re.compile(r"~(?![01])")
INDEX: Final = re.compile(r"0|[1-9]\d{0,8}")

Token = tuple[str, int | None]
"""A reference token, and the array index it also is, or None."""


class MissingValueError(LookupError):
    """There is nothing at this place in the payload."""


@dataclass(frozen=True, slots=True)
class Pointer:
    """A place in a JSON document."""

    text: str
    tokens: tuple[Token, ...]
    from_message: bool = False
    """Written with `^`: relative to the whole message, not to a record of it."""

    def find(self, document: object) -> object:
        """What is there. Raises MissingValueError."""
        place = document
        for name, index in self.tokens:
            if isinstance(place, dict) and name in place:
                place = place[name]
            elif isinstance(place, list) and index is not None and index < len(place):
                place = place[index]
            else:
                message = f"nothing at {self.text}"
                raise MissingValueError(message)
        return place


def check_pointer(text: str) -> str | None:
    """What is wrong with a JSON Pointer, or None."""
    if text and not text.startswith("/"):
        return f"the JSON Pointer {text!r} does not begin with `/`"
    if BAD_ESCAPE.search(text):
        return f"in the JSON Pointer {text!r} a `~` is neither `~0` nor `~1`"
    return None


@lru_cache(maxsize=65_536)
def pointer(text: str) -> Pointer:
    """The pointer this text means; a leading `^` makes it relative to the message. ValueError when it is none."""
    plain = text.removeprefix("^")
    problem = check_pointer(plain)
    if problem:
        raise ValueError(problem)
    names = [part.replace("~1", "/").replace("~0", "~") for part in plain.split("/")[1:]]
    return Pointer(text, tuple((n, int(n) if INDEX.fullmatch(n) else None) for n in names), text.startswith("^"))


def split(address: str) -> tuple[str, Pointer]:
    """Topic and pointer of an address that `check` accepts."""
    topic, _, place = address.partition("#")
    return topic, pointer(place)


def check(address: str) -> str | None:
    """What is wrong with an address and how to write it, or None."""
    topic, _, place = address.partition("#")
    if not topic or "+" in topic or "\0" in topic or len(topic.encode(errors="replace")) > LONGEST_TOPIC:
        return f"{address!r} does not begin with an exact topic (no `+`, no `#`): {HOW}"
    problem = check_pointer(place)
    return f"{address!r}: {problem}: {HOW}" if problem else None
