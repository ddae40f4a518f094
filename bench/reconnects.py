"""Whether a connector keeps memory: connect, take a batch, close, a thousand times, and the slope of what is held.

`python -m bench.reconnects [--times 1000] [--connectors opcua,mqtt,sparkplug,modbus]` prints the resident memory after
every tenth of the way, and the slope over the second half, in bytes per reconnect. Each peer is a real one of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import tempfile
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import paho.mqtt.publish

import connectors
from app.launcher import servers, usage
from app.launcher.ports import Port
from bench.peers import peer
from connectors import ConnectionConfig, TagBinding

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from connectors import Source

TAGS: Final = 100
TENTHS: Final = 10
Peer = tuple[dict[str, Any], tuple[TagBinding, ...]]
"""A connection's options, and its tags."""


@asynccontextmanager
async def opcua(_folder: Path) -> AsyncIterator[Peer]:
    """An open62541 server. A new session each time: one that is taken up has nothing to tell for a second."""
    with Port() as port:
        async with peer("bench.opcua_plant", "--port", port.number, "--tags", TAGS, "--for", 1):
            url = f"opc.tcp://127.0.0.1:{port.number}"
            options = {"url": url, "security": "None", "publishing_interval_ms": 10, "resume": False}
            yield options, tuple(TagBinding(n, f"ns=1;s=T{n}") for n in range(TAGS))


def retain(broker: servers.Broker) -> None:
    """Leave a message on every topic. Blocking."""
    messages: list[Any] = [(f"bench/r{n}", '{"v":1.5}', 1, True) for n in range(TAGS)]
    assert broker.user is not None
    login: paho.mqtt.publish.AuthParameter = {"username": broker.user, "password": broker.password or ""}
    paho.mqtt.publish.multiple(messages, hostname=broker.host, port=broker.port, auth=login)


@asynccontextmanager
async def mqtt(folder: Path) -> AsyncIterator[Peer]:
    """A broker with a retained message per tag."""
    async with servers.broker(folder) as broker:
        await asyncio.to_thread(retain, broker)
        login = {"username": broker.user, "password": broker.password}
        options = {"url": f"mqtt://{broker.host}:{broker.port}", **login}
        yield options, tuple(TagBinding(n, f"bench/r{n}#/v") for n in range(TAGS))


@asynccontextmanager
async def sparkplug(folder: Path) -> AsyncIterator[Peer]:
    """A broker and an edge node that is born all the time: one that is asked is not asked again for a while."""
    async with servers.broker(folder) as broker:
        secret = folder / "password-of-node"
        secret.write_text(broker.password or "")
        node = ("--host", broker.host, "--port", broker.port, "--user", broker.user, "--password-file", secret)
        async with peer("bench.sparkplug_node", *node, "--metrics", TAGS):
            login = {"username": broker.user, "password": broker.password}
            options = {"url": f"sparkplug://{broker.host}:{broker.port}", "rebirth": False, **login}
            yield options, tuple(TagBinding(n, f"bench/edge#T{n}") for n in range(TAGS))


@asynccontextmanager
async def modbus(_folder: Path) -> AsyncIterator[Peer]:
    """A device with ten registers."""
    with Port() as port:
        async with peer("bench.modbus_device", "--port", port.number):
            options = {"url": f"modbus://127.0.0.1:{port.number}"}
            yield options, tuple(TagBinding(n, f"holding:{n}") for n in range(10))


PEERS: Final = {"opcua": opcua, "mqtt": mqtt, "sparkplug": sparkplug, "modbus": modbus}


async def once(source: Source) -> None:
    """Connect, take the first readings, close."""
    await source.connect()
    while True:
        batch = await source.read()
        await batch.ack()
        if len(batch):
            break
    await source.close()


def held() -> int:
    """Bytes resident, without what waits to be collected."""
    gc.collect()
    return usage.of_process(os.getpid()).rss_bytes


async def measure(name: str, times: int) -> tuple[list[int], float, float]:
    """Bytes held after each tenth, their slope over the second half in bytes per reconnect, and seconds."""
    with tempfile.TemporaryDirectory(prefix="headrace-reconnects-") as folder:
        async with PEERS[name](Path(folder) / "peer") as (options, tags):
            data = Path(folder) / "connection"
            data.mkdir()
            source = connectors.load(name).source(ConnectionConfig("bench", options, tags, 1, str(data)))
            sizes, begin = [held()], time.monotonic()
            for number in range(1, times + 1):
                await once(source)
                if number % max(1, times // TENTHS) == 0:
                    sizes.append(held())
            spent = time.monotonic() - begin
    half = sizes[len(sizes) // 2 :]
    slope = np.polyfit(np.arange(len(half)) * max(1, times // TENTHS), half, 1)[0]
    return sizes, float(slope), spent


async def main() -> None:
    """Print a line per connector."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=1000)
    parser.add_argument("--connectors", default=",".join(PEERS))
    given = parser.parse_args()
    for name in given.connectors.split(","):
        sizes, slope, spent = await measure(name, given.times)
        shown = " ".join(f"{size / 2**20:.1f}" for size in sizes)
        print(f"{name:8} {given.times} reconnects in {spent:.0f} s; MiB {shown}; {slope:+.0f} bytes a reconnect")


if __name__ == "__main__":
    asyncio.run(main())
