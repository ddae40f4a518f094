"""A look at a foreign broker: which topics speak, what their messages hold, how often; it publishes nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Final

from connectors import NO_TIME, Found, Look, Proposal, Status
from connectors.mqtt.address import split
from connectors.mqtt.learn import PEER_TOPIC, Listener, notes, proposals

REQUESTS: Final = 3
"""CONNECT, SUBSCRIBE, DISCONNECT."""


async def look(url: str, seconds: float, **credentials: object) -> Look:
    """Listen for `seconds`; `credentials` are those of `Options`, and `filter` for what to listen to (`#` by default).

    Raises NotConnectedError, RefusedError, and ValueError for credentials that are not valid.
    """
    given = dict(credentials)
    wanted = str(given.pop("filter", "#"))
    listener = Listener(url, **given)
    try:
        await listener.open()
        await listener.listen([wanted], seconds)
        received = listener.bytes_received
    finally:
        await listener.close()
    spent = time.monotonic() - listener.began
    proposed = list(proposals(listener.heard, spent))
    return Look(
        listener.called,
        tuple(_found(one, spent) for one in proposed),
        None,
        spent,
        REQUESTS,
        received,
        (*notes(listener, spent), *_hints(proposed)),
    )


def _found(one: Proposal, seconds: float) -> Found:
    value = one.samples[-1] if one.samples else one.note
    changes = round(one.per_second * seconds)
    return Found(one.address, one.name, one.datatype, value, Status.GOOD, NO_TIME, one.unit, changes)


def _hints(proposed: Sequence[Proposal]) -> Iterator[str]:
    """What a tag of each topic needs; told once."""
    told = set()
    for one in proposed:
        topic = split(one.address)[0]
        if topic in told:
            continue
        told.add(topic)
        if one.layout != "json":
            yield f"{topic}: {one.layout}"
        if "time" in one.options:
            place, form = one.options["time"], one.options["time_format"]
            yield f"{topic}: {place} looks like the source time, `time_format: {form}`"


__all__ = ["PEER_TOPIC", "look"]
