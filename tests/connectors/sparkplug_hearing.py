"""What the plant hears and what comes of it, without a broker: messages of our own at times of our own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from connectors import TagBinding
from connectors.sparkplug.options import Options
from connectors.sparkplug.plant import Plant, Taken
from connectors.sparkplug.scope import Arrival
from tests.connectors.sparkplug_edge import BOOLEAN, DOUBLE, bdseq, metric, payload

S: Final = 1_000_000_000
T0: Final = 1_764_000_000 * S
"""ns: when the connection begins."""
MS0: Final = 1_764_000_000_000
URL: Final = "sparkplug://127.0.0.1"

Part = Any
"""What `metric` takes."""
Row = tuple[int, int, object, int]
"""Tag, source time in ms since the beginning, value (None for none), status."""


class Hearing:
    """A plant with tags 1, 2, … on these addresses in group `G`; its clock begins at 0 s."""

    def __init__(self, *addresses: str, datatype: str = "any", **options: object) -> None:
        """It is connected."""
        tags = [TagBinding(n, f"G/{address}", datatype) for n, address in enumerate(addresses, 1)]
        self.plant = Plant(tags, Options.model_validate({"url": URL, **options}))
        self.now = 0.0
        self.asked: list[float] = []
        """When the node `N` was asked for births, in seconds: once at the beginning, as nobody is known yet."""
        self.last = Taken()
        self._mid = 0
        self.plant.connected(self.now, T0)
        self._ask()

    def hear(self, topic: str, content: bytes, *, retained: bool = False) -> Sequence[Row]:
        """What comes of one message, at once; `topic` is like `NDATA/N` or `DDATA/N/D`."""
        self._mid += 1
        received = T0 + int(self.now * S)
        arrival = Arrival(f"spBv1.0/G/{topic}", content, self._mid, 1, retained, received)
        self.last = Taken()
        self.plant.take(arrival, self.now, self.last)
        self._ask()
        return rows(self.last)

    def later(self, seconds: float) -> Sequence[Row]:
        """What comes of nothing but time."""
        self.now += seconds
        self.last = Taken()
        self.plant.expire(self.now, T0 + int(self.now * S), self.last)
        self._ask()
        return rows(self.last)

    def _ask(self) -> None:
        while self.plant.rebirths.due(self.now) is not None:
            self.asked.append(self.now)

    @property
    def refused(self) -> list[tuple[str, str, int]]:
        """Address, reason and readings of what the last message had that could not be taken."""
        return [(one.address, one.reason, one.readings) for one in self.last.rows.refusals()]

    @property
    def acked(self) -> list[int]:
        """The messages that the last one settled, numbered from 1."""
        return [mid for mid, _ in self.last.acks]


def rows(taken: Taken) -> list[Row]:
    """The readings."""
    found = taken.rows
    return [
        (tag, (time - T0) // 1_000_000, found.others.get(n, None if math.isnan(number) else number), status)
        for n, (tag, time, number, status) in enumerate(
            zip(found.tags, found.times, found.values, found.status, strict=True)
        )
    ]


def double(name: str | None, given: float | None, time: int = 0, **more: Part) -> bytes:
    """A metric of type Double; `time` in ms since the beginning."""
    return metric(name, DOUBLE, given, time=MS0 + time, **more)


def born(*metrics: bytes, session: int = 0, seq: int | None = 0, time: int = 0) -> bytes:
    """An NBIRTH by the rules."""
    control = metric("Node Control/Rebirth", BOOLEAN, given=False)
    return payload(bdseq(session), control, *metrics, seq=seq, time=MS0 + time)


def said(*metrics: bytes, seq: int | None, time: int = 0) -> bytes:
    """Data, or the birth of a device."""
    return payload(*metrics, seq=seq, time=MS0 + time)


def died(session: int | None = 0) -> bytes:
    """An NDEATH."""
    return payload(*([] if session is None else [bdseq(session)]))
