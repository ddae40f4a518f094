"""A broker, listeners on it and plants for each test of the examples, all of them gone afterwards."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from tests.examples.peers import Broker, Listener, Running, free_port, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker that runs."""
    made = Broker(tmp_path_factory.mktemp("broker"))
    made.start()
    yield made
    made.stop()


@pytest.fixture
def listen(broker: Broker) -> Iterator[Callable[[str], Listener]]:
    """Makes a listener on a topic; closed at the end."""
    with contextlib.ExitStack() as stack:

        def make(topic: str) -> Listener:
            listener = Listener(broker.port, topic)
            stack.callback(listener.close)
            return listener

        yield make


@pytest.fixture
def start(broker: Broker, tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Starts an example plant on the broker; stopped at the end."""
    with contextlib.ExitStack() as stack:

        def begin(module: str, *options: str) -> Running:
            options = ("--mqtt-port", str(broker.port), *options)
            return stack.enter_context(running(module, tmp_path / "log", *options))

        yield begin


@pytest.fixture
def port() -> int:
    """A port that nobody listens on."""
    return free_port()
