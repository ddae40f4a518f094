"""What goes through a queue: a journal record with the windows it closed, and which workers it passes on its way."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from app.records import Record, WindowBlock

VERSION: Final = 1
MOST_STOPS: Final = 64
Order = tuple[str, ...]
"""The devices of a pipeline, as it names them."""


class Stop(msgspec.Struct, array_like=True, frozen=True):
    """A queue that a message passes, and which windows a worker there runs."""

    queue: Annotated[str, Meta(pattern=r"^[a-z0-9._]{1,60}\Z")]
    orders: Annotated[tuple[Order, ...], Meta(max_length=1000)] = ()
    """Those of pipelines with these orders of devices; at the first stop all that no later one is for."""


Way = tuple[Stop, ...]


class Message(msgspec.Struct, array_like=True, frozen=True):
    """One Celery message: a journal record under its id, with the windows it closed."""

    version: int
    """1."""
    journal: str
    epoch: int
    number: int
    record: Record
    windows: tuple[WindowBlock, ...]
    term: int = 0
    """Of the lease under which the record was read; 0 where there is one gateway."""
    stops: Annotated[Way, Meta(max_length=MOST_STOPS)] = ()
    """Where it goes from the worker that has it; whoever has it at the last stop stores it."""
    answers: tuple[tuple[int, bytes], ...] = ()
    """Of earlier stops: the place of a block in `windows`, and what was computed of it (`app.answers`)."""

    @property
    def name(self) -> str:
        """The same however often it is sent."""
        return f"{self.journal}:{self.epoch}:{self.number}"


_decoder = msgspec.msgpack.Decoder(Message)


def encoded(message: Message) -> bytes:
    """As it travels."""
    return msgspec.msgpack.encode(message)


def decoded(body: bytes) -> Message:
    """What a queue has brought. Raises msgspec.MsgspecError, ValueError, RecursionError: it is foreign."""
    return _decoder.decode(body)


def onward(body: bytes, stops: Way) -> bytes:
    """The same message for a worker after which these come."""
    return encoded(msgspec.structs.replace(decoded(body), stops=stops)) if stops else body
