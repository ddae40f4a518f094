"""Under which leases what a gateway reads is journaled, and where the numbers of its pipelines go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.field.blocking import blocking
from app.field.holding import reads
from app.leases import service as leases
from app.records import Leased
from app.takeover import service as takeover

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from app.field.filling import Means
    from app.pipelines.service import Version


class Terms:
    """Remembers what was journaled last, to tell a takeover from a version that is put in force within a term."""

    def __init__(self, means: Means) -> None:
        """Nothing was journaled yet."""
        self._means, self._holding = means, means.holding
        self._leased = Leased({}, {})

    async def leased(self, connections: Iterable[int], versions: Mapping[int, Version]) -> Leased | None:
        """For these, which are ours; None where there is one gateway. Raises what the database does."""
        if not self._holding.lasts:
            return None
        terms = {key: self._holding.term(leases.connection(key)) for key in connections}
        starts = {}
        for key, version in versions.items():
            connection = min(reads(version))
            term = terms.get(connection, 0)
            known = self._leased.starts.get(key)
            if known is None or (known.connection, known.term) != (connection, term):
                fresh = self._leased.terms.get(connection) == term
                if term == 1 and not fresh:
                    # What this gateway read before there were leases has its numbers first.
                    await self._means.applied(self._means.head())
                known = await blocking(
                    takeover.begin, self._means.engine, version, connection, term, fresh=fresh
                )
            if known is not None:
                starts[key] = known
        self._leased = Leased(terms, starts)
        return self._leased
