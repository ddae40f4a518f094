"""A peer that keeps a past, in the test's hand: it keeps the contract of `connectors`, and does nothing by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from connectors import Allowance, Batch, NotConnectedError
from tests.app.field.doubles import SECOND, Peer

Remembered = tuple[int, int, float]
"""Tag, source time (ns), value."""
RICH = Allowance(24 * 3600 * SECOND, 1_000_000)


@dataclass
class Past:
    """See `connectors.Past`."""

    peer: Remembering
    left: list[Remembered] = field(default_factory=list)
    closed: int = 0

    async def begin(self, since: int, until: int) -> None:
        """See `connectors.Past`."""
        self.peer.spans.append((since, until))
        self.left = [one for one in self.peer.past if since <= one[1] <= until]

    async def read(self) -> Batch | None:
        """See `connectors.Past`."""
        if self.peer.breaks_after == 0:
            message = "cut"
            raise NotConnectedError(message)
        self.peer.breaks_after -= 1
        page, self.left = self.left[: self.peer.page], self.left[self.peer.page :]
        if not page:
            return None
        tags, times, values = zip(*page, strict=True)
        return Batch(
            np.array(tags, np.int64), np.array(times, np.int64), np.array(values, np.float64), {},
            np.zeros(len(page), np.uint32), times[-1], 0, 1,
        )  # fmt: skip

    @property
    def lacking(self) -> Mapping[int, str]:
        """See `connectors.Past`."""
        return self.peer.lacking

    async def close(self) -> None:
        """See `connectors.Past`."""
        self.closed += 1


@dataclass
class Remembering(Peer):
    """See `connectors.Historical`."""

    past: list[Remembered] = field(default_factory=list)
    page: int = 10
    allowance: Allowance | None = RICH
    lacking: dict[int, str] = field(default_factory=dict)
    breaks_after: int = -1
    """Pages, then the connection is lost; negative: never."""
    spans: list[tuple[int, int]] = field(default_factory=list)
    """That were asked for."""
    pasts: list[Past] = field(default_factory=list)

    def history(self) -> Past:
        """See `connectors.Historical`."""
        self.pasts.append(Past(self))
        return self.pasts[-1]
