"""The example plants end when they are told to, and when nobody is left who could tell them."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.examples.peers import ROOT, START_S, STOP_S, Running, free_port, wait_for_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.launcher.servers import Broker

STATION = "examples.tightening.station"
PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-m", *sys.argv[1:]])
print("child", child.pid, flush=True)
child.wait()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it(start: Callable[..., Running], broker: Broker, number: signal.Signals) -> None:
    """SIGTERM and SIGINT end the process with exit code 0."""
    station = start(STATION, broker)
    station.process.send_signal(number)
    assert station.process.wait(STOP_S) == 0


def test_it_does_not_outlive_its_parent() -> None:
    """When the process that started a plant is killed, the plant ends by itself."""
    command = [sys.executable, "-c", PARENT, STATION, "--mqtt-port", str(free_port())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as parent:
        assert parent.stdout is not None
        child = int(wait_for_line(parent.stdout.fileno(), b"child", START_S).split()[1])
        handle = os.pidfd_open(child)
        try:
            wait_for_line(parent.stdout.fileno(), b"ready", START_S)
            parent.kill()
            ended, _, _ = select.select([handle], [], [], STOP_S)
            assert ended, "the plant still runs"
        finally:
            os.close(handle)
