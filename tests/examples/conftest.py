"""A broker, listeners on it and plants for each test of the examples, all of them gone afterwards."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from app.launcher import servers
from tests.examples.peers import Listener, Running, broker_options, free_port, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[servers.Broker]:
    """A broker of the module's own, since the example plants have fixed topics."""
    async with servers.broker(tmp_path_factory.mktemp("broker")) as address:
        yield address


@pytest.fixture
def listen() -> Iterator[Callable[[servers.Broker, str], Listener]]:
    """Makes a listener on a topic; closed at the end."""
    with contextlib.ExitStack() as stack:

        def make(broker: servers.Broker, topic: str) -> Listener:
            listener = Listener(broker, topic)
            stack.callback(listener.close)
            return listener

        yield make


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Starts an example plant on a broker; stopped at the end."""
    with contextlib.ExitStack() as stack:

        def begin(module: str, broker: servers.Broker, *options: str) -> Running:
            options = (*broker_options(broker, tmp_path), *options)
            return stack.enter_context(running(module, tmp_path / "log", *options))

        yield begin


@pytest.fixture
def port() -> int:
    """A port that nobody listens on."""
    return free_port()
