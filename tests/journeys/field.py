"""A box whose field is made for outages, and ways from one to the other."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import yaml

from bench.outage_field import CONNECTIONS, Outside, outside
from tests.journeys.box import Box, running
from tests.journeys.outages import Report, Way

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@dataclass
class Field:
    """The box and everything outside it."""

    box: Box
    outside: Outside

    def way(self, *names: str) -> Way:
        """To these connections, which share a gate; meanwhile all others but those to the vaults go on."""
        others = [one for one in CONNECTIONS if one not in names]

        async def meanwhile() -> None:
            for one in others:
                await Way(self.box, (one,)).fresh()

        return Way(self.box, names, self.outside.gate(names[0]), meanwhile)

    async def renewed(self) -> None:
        """A server that would end by itself in the middle of a journey has its ten minutes before it again."""
        await self.outside.servers["o6"].renew()
        way = self.way("o6")
        await way.fresh()
        await way.reached("connected")

    def report(self, *names: str) -> Report:
        """Of outages of these connections."""
        return Report(self.box, {name: partial(self.outside.log, name) for name in names})


@asynccontextmanager
async def field(folder: Path) -> AsyncIterator[Field]:
    """Everything runs but the secured servers, and something is stored of each."""
    async with outside(folder) as peers:

        def plant(own: Path) -> Path:
            path = own / "field.yaml"
            document = {"version": 1, "plant": {"enterprise": "tests", "site": "field"}, **peers.document()}
            path.write_text(yaml.safe_dump(document, sort_keys=False))
            return path

        async with running(folder / "box", plant=plant) as box:
            made = Field(box, peers)
            for name in CONNECTIONS:
                await made.way(name).fresh()
            yield made
