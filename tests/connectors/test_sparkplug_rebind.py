"""Other tags on a living Sparkplug host: only nodes with new ones are asked for their births."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from app.launcher import servers
from connectors import Batch, ConnectionConfig, Status, TagBinding
from connectors.sparkplug.plant import Taken
from connectors.sparkplug.source import SparkplugSource
from tests.connectors.sparkplug_edge import DOUBLE, Edge
from tests.connectors.sparkplug_hearing import T0, Hearing, born, double, rows, said

SOON_S = 10.0
BAD = Status.BAD_NO_COMMUNICATION


@pytest.fixture
def group(tmp_path: Path) -> str:
    """A group of the test's own."""
    return f"rebind-{tmp_path.name}"


@pytest_asyncio.fixture(loop_scope="session")
async def edges(broker: servers.Broker, group: str) -> AsyncIterator[tuple[Edge, Edge]]:
    """Two nodes that are up."""
    of_one = {"a": (DOUBLE, 1.0), "b": (DOUBLE, 2.0)}
    made = (
        Edge(broker, group, "one", metrics=of_one, devices={"D": {"c": (DOUBLE, 3.0)}}),
        Edge(broker, group, "two", metrics={"a": (DOUBLE, 4.0)}),
    )
    for edge in made:
        await asyncio.to_thread(edge.connect)
    yield made
    for edge in made:
        await asyncio.to_thread(edge.die)


async def until(source: SparkplugSource, enough: Callable[[dict[int, list[float]]], object]) -> list[Batch]:
    """Acknowledged batches until the values by tag are enough."""
    batches: list[Batch] = []
    async with asyncio.timeout(SOON_S):
        while not enough(values(batches)):
            batches.append(await source.read())
            await batches[-1].ack()
    return batches


def values(batches: list[Batch]) -> dict[int, list[float]]:
    """By tag."""
    found: dict[int, list[float]] = {n: [] for n in range(1, 6)}
    for batch in batches:
        for tag, value in zip(batch.tags.tolist(), batch.values.tolist(), strict=True):
            found[tag].append(value)
    return found


@pytest.mark.asyncio(loop_scope="session")
async def test_only_nodes_with_new_tags_are_asked(
    broker: servers.Broker, edges: tuple[Edge, Edge], group: str, data_dir: str
) -> None:
    """A new tag's value comes with its node's births; another node is not asked, and its tags go on."""
    one, two = edges
    a, b, c = (TagBinding(n, f"{group}/{at}") for n, at in enumerate(("one#a", "one#b", "one/D#c"), 1))
    other = TagBinding(4, f"{group}/two#a")
    given = {"url": f"sparkplug://{broker.host}:{broker.port}", "username": broker.user, "password": broker.password}
    wanted = ConnectionConfig(group, given, (a, other), 1, data_dir)
    source = SparkplugSource(wanted)
    assert not await source.rebind(wanted), "not connected"
    await source.connect()
    await until(source, lambda found: found[1] and found[4])
    asked = len(two.commands)
    assert await source.rebind(replace(wanted, tags=(b, c, other), revision=2))
    batches = await until(source, lambda found: found[2] and found[3])
    one.change("b", 20.0)
    one.change("c", 30.0, "D")
    two.change("a", 40.0)
    batches += await until(source, lambda found: 20.0 in found[2] and 30.0 in found[3] and 40.0 in found[4])
    found = values(batches)
    # The device's birth that was asked for at first may come only now, before the one that is asked for now.
    assert (found[1], found[2], [*dict.fromkeys(found[3])], found[4]) == ([], [2.0, 20.0], [3.0, 30.0], [40.0])
    assert {batch.revision for batch in batches if len(batch)} == {2}
    assert len(two.commands) == asked
    assert all(batch.continues for batch in batches)
    with pytest.raises(ValueError, match="group"):
        await SparkplugSource(replace(wanted, options={**given, "groups": [group]})).rebind(
            replace(wanted, tags=(TagBinding(5, "elsewhere/node#x"),))
        )
    await source.close()


def rebound(hearing: Hearing, *addresses: str) -> None:
    """Tags 1, 2, … are on these addresses now."""
    tags = [TagBinding(n, f"G/{address}", "any") for n, address in enumerate(addresses, 1) if address]
    hearing.last = Taken()
    hearing.plant.rebind(hearing.plant.wanted(tags), hearing.now, hearing.last)
    hearing._ask()  # noqa: SLF001 - the hearing's own


def test_a_node_that_answers_is_asked_at_once_and_one_that_does_not_is_left_alone() -> None:
    """An engineer who adds tags one by one need not wait for the pause between requests; a dead node has its own."""
    hearing = Hearing("N#a")
    hearing.hear("NBIRTH/N", born(double("a", 1.0)))
    for addresses in (("N#a", "N#b"), ("N#a", "N#b", "N#c")):
        hearing.now += 1
        rebound(hearing, *addresses)
        hearing.hear("NBIRTH/N", born(*(double(one.partition("#")[2], 1.0) for one in addresses)))
    assert hearing.asked == [0.0, 1.0, 2.0]
    silent = Hearing("N#a")
    silent.now += 1
    rebound(silent, "N#a", "N#b")
    assert silent.asked == [0.0]


def test_what_was_certain_stays_certain() -> None:
    """That a new tag is waited for holds up no other tag's sign of life; if it never comes it is Bad in the end."""
    hearing = Hearing("N#a", birth_wait_s=10)
    hearing.hear("NBIRTH/N", born(double("a", 1.0)))
    assert hearing.plant.certain_until() is None
    rebound(hearing, "N#a", "N#b")
    certain = hearing.plant.certain_until()
    assert certain is None or certain > T0 + 3600 * 10**9
    assert hearing.later(11) == [(2, 11_000, None, BAD)]
    assert hearing.plant.certain_until() is None


def test_what_waits_in_line_is_settled_when_its_node_is_left() -> None:
    """A message that waits for one before it is acknowledged, not held for ever, when nobody wants its node."""
    hearing = Hearing("N#a", "M#x")
    hearing.hear("NBIRTH/N", born(double("a", 1.0)))
    assert hearing.hear("NDATA/N", said(double("a", 3.0), seq=2)) == []
    assert hearing.acked == []
    rebound(hearing, "", "M#x")
    assert hearing.acked == [2]
    assert [tag for tag, *_ in rows(hearing.last)] == [1], "it had arrived under the tags of before"
    assert hearing.hear("NDATA/N", said(double("a", 4.0), seq=3)) == []
    assert hearing.acked == [3]


def test_a_birth_that_is_known_holds_for_the_tags_that_stay() -> None:
    """Aliases and the order of messages go on through a change, and so does a device beside one that is left."""
    hearing = Hearing("N#a", "N/D#c", "N/E#e")
    hearing.hear("NBIRTH/N", born(double("a", 1.0, alias=1)))
    hearing.hear("DBIRTH/N/D", said(double("c", 1.0, alias=2), seq=1))
    hearing.hear("DBIRTH/N/E", said(double("e", 1.0, alias=3), seq=2))
    rebound(hearing, "N#a", "N/D#c")
    assert hearing.hear("DDATA/N/E", said(double(None, 5.0, alias=3), seq=3)) == []
    assert hearing.hear("DDATA/N/D", said(double(None, 6.0, alias=2, time=7), seq=4)) == [(2, 7, 6.0, 0)]
    assert hearing.hear("NDATA/N", said(double(None, 7.0, alias=1, time=8), seq=5)) == [(1, 8, 7.0, 0)]
    assert hearing.asked == [0.0]
