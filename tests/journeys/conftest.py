"""One box with both example plants for every journey that leaves it as it was."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.journeys.box import Box, plants, running
from tests.journeys.field import Field
from tests.journeys.field import field as field_of


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """A short path: that of a socket may not be long."""
    with tempfile.TemporaryDirectory(prefix="headrace-journeys-") as name:
        yield Path(name)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def box(folder: Path) -> AsyncIterator[Box]:
    """The box, its plants running and its first predictions made."""
    async with running(folder / "shared") as made, plants(made):
        yield made


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def field_of_all(folder: Path) -> AsyncIterator[Field]:
    """A box whose field is made for outages; each leaves it as it was."""
    async with field_of(folder / "outage-kinds") as made:
        yield made


@pytest_asyncio.fixture(loop_scope="session")
async def field(field_of_all: Field) -> Field:
    """The same, with servers that last for this journey."""
    await field_of_all.renewed()
    return field_of_all
