"""To which places in the plant readings belong: those of their tags, cut to so few levels that they stay few."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

MOST: Final = 32
"""Places of one connection: each that a batch touches is a row of the ledger to be added to."""
NOWHERE: Final = 0
"""The place of tags without one, and of what belongs to no tag that is known."""


def cut(paths: Iterable[str], most: int = MOST) -> dict[str, str]:
    """Each path with as many of its levels as leave at most so many different ones: path → its beginning, or empty.

    The same number of levels for all, so that what is added up under a level is all that lies below it.
    """
    known = {path: path.split("/") for path in paths if path}
    for levels in range(max(map(len, known.values()), default=0), 0, -1):
        found = {path: "/".join(parts[:levels]) for path, parts in known.items()}
        if len(set(found.values())) <= most:
            return found
    return dict.fromkeys(known, "")


@dataclass(frozen=True, slots=True)
class Places:
    """Of one connection's tags, as ids of the ledger."""

    tags: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """Sorted, shape (n,)."""
    ids: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """`places.id` of each, `NOWHERE` for none, shape (n,)."""
    addresses: Mapping[str, int] = field(default_factory=dict)
    """The same by the peer's address, of tags that have a place."""

    def count(self, tags: NDArray[np.int64], refused: Iterable[tuple[int, int]] = ()) -> tuple[tuple[int, int], ...]:
        """Place and how many readings belong to it, in order; those of no place are left out.

        `tags`: of each reading, shape (n,). `refused`: places and readings of what was refused beside them.
        """
        found: Counter[int] = Counter()
        if len(self.tags) and len(tags):
            at = np.minimum(self.tags.searchsorted(tags), len(self.tags) - 1)
            ids, counts = np.unique(np.where(self.tags[at] == tags, self.ids[at], NOWHERE), return_counts=True)
            found.update(dict(zip(ids.tolist(), counts.tolist(), strict=True)))
        for place, readings in refused:
            found[place] += readings
        return tuple((place, readings) for place, readings in sorted(found.items()) if place)

    def of(self, address: str) -> int:
        """The place of what the peer calls so; `NOWHERE` when no tag with a place has this address."""
        return self.addresses.get(address, NOWHERE)
