"""A look at edge nodes through a real broker: what is found, what is said about it, and that nothing is sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from app.launcher import servers
from app.launcher.ports import Port
from connectors import Found, Look, NotConnectedError, RefusedError, Status
from connectors.sparkplug import look
from tests.connectors.sparkplug_edge import (
    BYTES,
    DOUBLE,
    INT32,
    STRING,
    Edge,
    block,
    metric,
    number,
    payload,
    value,
)
from tests.connectors.sparkplug_listener import listening
from tests.waiting import wait_for

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def edge(broker: servers.Broker, tmp_path: Path) -> AsyncIterator[Edge]:
    """A node with a device, in a group of the test's own; not connected yet."""
    made = Edge(
        broker,
        f"look-{tmp_path.name}",
        metrics={"a": (DOUBLE, 1.5), "n": (INT32, -7)},
        devices={"Press": {"Motor/State": (STRING, "停"), "raw": (BYTES, b"abc")}},
    )
    yield made
    await asyncio.to_thread(made.die)


async def looking(edge: Edge, seconds: float, **more: object) -> Look:
    """A look at the node's group."""
    broker = edge.broker
    access = {"username": broker.user, "password": broker.password, "group": edge.group, **more}
    return await look(f"sparkplug://{broker.host}:{broker.port}", seconds, **access)


async def test_a_look(edge: Edge) -> None:
    """Metrics with address, type, value, quality, time and unit; what died is Bad; and nothing was sent to anyone."""
    async with listening(edge.broker, f"spBv1.0/{edge.group}/NCMD/#") as commands:
        task = asyncio.create_task(looking(edge, 2.0))
        async with listening(edge.broker, f"spBv1.0/{edge.group}/#") as heard:
            await asyncio.to_thread(edge.connect)
            unit = block(9, block(1, b"engUnit") + block(2, number(1, STRING) + value(STRING, "kN", 3)))
            await asyncio.to_thread(edge.send, "NDATA", metric("force", DOUBLE, 2.5, time=edge.clock, raw=unit))
            await asyncio.to_thread(edge.change, "n", -8)
            await asyncio.to_thread(edge.send, "DDEATH", device="Press")
            await asyncio.to_thread(edge.publish, "NDATA", b"\xff")
            await wait_for(lambda: len(heard) == 6)
        result = await task
    found = {one.address: one for one in result.found}
    at = f"{edge.group}/edge"
    assert {address for address in found if not address.endswith(("#bdSeq", "#Node Control/Rebirth"))} == {
        f"{at}#a",
        f"{at}#n",
        f"{at}#force",
        f"{at}/Press#Motor/State",
        f"{at}/Press#raw",
    }
    first = (edge.clock - 5) * 1_000_000
    assert found[f"{at}#a"] == Found(f"{at}#a", "a", "float", "1.5", Status.GOOD, first, "", 1)
    assert (found[f"{at}#n"].value, found[f"{at}#n"].datatype, found[f"{at}#n"].changes) == ("-8", "integer", 2)
    assert found[f"{at}#force"].unit == "kN"
    state = found[f"{at}/Press#Motor/State"]
    assert (state.value, state.status) == ('"停"', Status.BAD_NO_COMMUNICATION)
    assert found[f"{at}/Press#raw"].value == "3 bytes"
    assert f"6 messages of 1 edge nodes and 1 devices, {len(found)} metrics" in result.notes
    assert {"the connection was not encrypted", "1 payloads cannot be read", f"{at}/Press has died"} <= set(
        result.notes
    )
    assert result.requests == 3
    assert commands == []


async def test_names_nobody_said(edge: Edge) -> None:
    """A node that only sends aliases is told of, and what to do."""
    await asyncio.to_thread(edge.connect)
    task = asyncio.create_task(looking(edge, 1.0))
    async with listening(edge.broker, f"spBv1.0/{edge.group}/#") as heard:
        while not task.done():
            before = len(heard)
            await asyncio.to_thread(edge.publish, "NDATA", payload(metric(None, DOUBLE, 1.0, alias=0)))
            await wait_for(lambda: len(heard) > before)  # noqa: B023 - it is waited for before the next turn
        result = await task
    assert any("only its birth names" in note for note in result.notes)
    assert edge.commands == []


async def test_nobody_and_wrong_password(edge: Edge) -> None:
    """Nobody there and a wrong password end with the error that says whose move it is."""
    with Port() as nobody, pytest.raises(NotConnectedError):
        await look(f"sparkplug://127.0.0.1:{nobody.number}", 1)
    with pytest.raises(RefusedError):
        await looking(edge, 1, password="wrong")  # noqa: S106 - it is meant to be wrong
