"""A watchdog on data: what a server does not tell is found out, and silence that means "unchanged" costs nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds

from connectors import NO_TIME, Batch, ConnectionConfig, Status, TagBinding
from connectors.opcua.decode import Changes
from connectors.opcua.monitored import NO_MORE
from connectors.opcua.silence import ANY, Held, Silence, Verdict
from connectors.opcua.source import OpcUaSource
from tests.connectors.opcua_plant import URI, Plant, opcua_plant, string_node
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
    from pathlib import Path

GONE = Status.BAD_NODE_ID_UNKNOWN
NOTHING = Verdict({}, ())


def told(handle: int, value: float, status: int = 0) -> Changes:
    """A notification of one item."""
    one = (np.array([handle], np.uint32), np.array([value]), np.array([status], np.uint32))
    return Changes(*one, np.array([NO_TIME]), np.array([11], np.uint8), {})


def watched(*tolerances: float, new: bool = True, sampling_s: float = 0.0) -> Silence:
    """Items 0, 1, … from second 0 on, asked for after 10 s of silence."""
    made = Silence(10.0)
    made.watch(dict(enumerate(tolerances)), {0: sampling_s}, 0.0, new=new)
    return made


def twice(silence: Silence, handle: int, *held: Held | None) -> list[Verdict]:
    """What is held at one look after the other, each as soon as the tag is due."""
    found, now = [], 0.0
    for one in held:
        now = next(float(t) for t in range(int(now), 10_000) if handle in silence.due(float(t)))
        found.append(silence.judge({handle: one}, now, now + 0.1))
    return found


def test_who_is_heard_of_is_not_asked_for() -> None:
    """Only after so long a silence, only once in that time, and later where the server samples slowly."""
    silence = watched(0.0, 0.0, sampling_s=7.0)
    assert silence.due(9.9) == []
    silence.heard(told(1, 1.0), 5.0)
    assert silence.due(14.9) == []
    assert silence.due(15.0) == [1]
    assert silence.due(21.0) == [0, 1]
    assert silence.due(21.0, most=1) == [0]
    silence.judge({1: Held(0, 1.0)}, 21.0, 21.0)
    assert silence.due(22.0) == [0]


@pytest.mark.parametrize(
    ("tolerance", "status", "value", "silent"),
    [
        (0.0, 0, 1.0, 0), (0.0, 0, 1.5, 1), (0.5, 0, 1.5, 0), (0.5, 0, 1.6, 1), (ANY, 0, 99.0, 0),
        (0.0, 0x40000000, 1.0, 1), (0.0, 0x480, 1.0, 0), (0.0, 0, np.nan, 1),
        (0.0, 0x801F0000, np.nan, 0),
    ],
)  # fmt: skip
def test_only_what_should_have_been_told_counts(tolerance: float, status: int, value: float, silent: int) -> None:
    """Within its deadband a number is not told; a status is, but not what it says beside; a Bad read says nothing."""
    silence = watched(tolerance)
    silence.heard(told(0, 1.0), 1.0)
    one = Held(status, value)
    assert twice(silence, 0, one, one) == [NOTHING, Verdict({}, (0,)) if silent else NOTHING]


def test_one_difference_proves_nothing() -> None:
    """What is on its way when we ask comes before we ask again; what differs twice has not been told."""
    silence = watched(0.0)
    silence.heard(told(0, 1.0), 1.0)
    assert twice(silence, 0, Held(0, 2.0)) == [NOTHING]
    silence.heard(told(0, 2.0), 12.0)
    assert silence.judge({0: Held(0, 3.0)}, 11.0, 12.5) == NOTHING, "asked before it was heard of"
    found = twice(silence, 0, Held(0, 3.0), Held(0, 2.0), Held(0, 3.0), Held(0, 3.0))
    assert found == [NOTHING, NOTHING, NOTHING, Verdict({}, (0,))]


def test_a_first_value_is_owed_and_after_a_resumption_it_is_not() -> None:
    """A new item of which nothing ever comes is mute; one that was resumed may have told all before."""
    one = Held(0, 1.0)
    assert twice(watched(0.0), 0, one, one)[-1].mute == (0,)
    resumed = watched(0.0, new=False)
    assert twice(resumed, 0, one, one) == [NOTHING, NOTHING]
    assert twice(resumed, 0, Held(0, 2.0), Held(0, 2.0))[-1].mute == (0,)


def test_a_node_that_is_gone_is_gone_at_once() -> None:
    """And it is asked for no more once it is not monitored any more; others that stay are as they were."""
    silence = watched(0.0, 0.0)
    assert twice(silence, 0, Held(GONE, np.nan)) == [Verdict({0: GONE}, ())]
    silence.watch({1: 0.0}, {}, 20.0, new=True)
    assert silence.due(1000.0) == [1]
    silence.heard(told(7, 1.0), 30.0)
    assert silence.judge({0: Held(GONE, np.nan)}, 999.0, 1000.0) == NOTHING


def test_what_falls_silent_again_and_again_is_asked_for_ever_less_often() -> None:
    """A server that cannot do it is left in peace, but for once an hour."""
    silence, mute = watched(0.0), list[int]()
    for now in range(0, 40_000, 10):
        if silence.due(now) and silence.judge({0: Held(0, 1.0)}, now, now).mute:
            mute.append(now)
            silence.again([0])
    apart = np.diff(mute).tolist()
    assert apart[:3] == [30, 60, 120]
    assert apart == sorted(apart)
    assert apart[-1] == 2 * 3600


@pytest.fixture
async def plant(tmp_path: Path) -> AsyncIterator[Plant]:
    """A server that anybody may read."""
    async with opcua_plant(tmp_path / "plant", [ua.SecurityPolicyType.NoSecurity]) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """The connection's own."""
    (tmp_path / "data").mkdir()
    return str(tmp_path / "data")


def source(plant: Plant, folder: str) -> OpcUaSource:
    """Level is tag 1, Count is tag 2, State is tag 3."""
    kinds = {"Level": "float", "Count": "integer", "State": "string"}
    tags = tuple(
        TagBinding(number, f"nsu={URI};s={name}", kind, {}) for number, (name, kind) in enumerate(kinds.items(), 1)
    )
    given = {"url": plant.url, "security": "None", "publishing_interval_ms": 20, "check_silent_s": 1, "retry_bad_s": 1}
    return OpcUaSource(ConnectionConfig("plant", given, tags, 1, folder))


class Heard:
    """What a connection reads, for as long as it is asked."""

    def __init__(self, source: OpcUaSource) -> None:
        """Nothing yet."""
        self._source = source
        self.of: dict[int, list[tuple[float, int]]] = {1: [], 2: [], 3: []}
        self.lost = 0

    async def until(self, tag: int, entry: tuple[float, int]) -> bool:
        """Read until this is the newest value and status of a tag."""
        batch: Batch = await self._source.read()
        await batch.ack()
        self.lost += batch.lost
        for one, value, status in zip(batch.tags.tolist(), batch.values.tolist(), batch.status.tolist(), strict=True):
            self.of[one].append((value, status))
        newest = self.of[tag][-1:]
        return bool(newest) and str(newest[0]) == str(entry)


Begun = tuple[OpcUaSource, Heard]


@pytest.fixture
async def begun(plant: Plant, folder: str) -> AsyncIterator[Begun]:
    """A connection that has read its first values."""
    mine = source(plant, folder)
    await mine.connect()
    heard = Heard(mine)
    await wait_for(lambda: heard.until(2, (0.0, 0)), 10)
    yield mine, heard
    await mine.close()


@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_node_that_is_deleted_without_a_word(plant: Plant, begun: Begun) -> None:
    """It is seen Bad, the others go on; when it is there again it is Good by itself, over the same session.

    The server means to tell it, and does not await what would; later it stumbles over the item.
    """
    mine, heard = begun
    before = set(plant.subscriptions())
    await plant.server.delete_nodes([plant.nodes["Count"]])
    await wait_for(lambda: heard.until(2, (np.nan, GONE)), 20)
    await plant.write("Level", 7.0)
    await wait_for(lambda: heard.until(1, (7.0, 0)), 10)
    index = await plant.server.get_namespace_index(URI)
    plant.nodes["Count"] = await plant.server.nodes.objects.add_variable(
        string_node("Count", index), "Count", ua.Variant(5, ua.VariantType.Int32)
    )
    await wait_for(lambda: heard.until(2, (5.0, 0)), 20)
    assert set(plant.subscriptions()) == before
    assert (heard.lost, mine.tend()) == (0, ())


async def test_an_item_that_falls_silent(plant: Plant, begun: Begun) -> None:
    """The server goes on and tells nothing of one item: it is monitored anew, the loss is counted and told."""
    mine, heard = begun
    await plant.write("Count", 1)
    await wait_for(lambda: heard.until(2, (1.0, 0)), 10)
    _silence(plant, "Count")
    await plant.write("Count", 2)
    await wait_for(lambda: heard.until(2, (2.0, 0)), 20)
    assert heard.lost == 1
    (note,) = mine.tend()
    assert "1 tags without telling" in note
    assert f"nsu={URI};s=Count" in note
    await plant.write("Count", 3)
    await wait_for(lambda: heard.until(2, (3.0, 0)), 10)


class Refusing:
    """Where the server takes no more items than it had."""

    ids: Mapping[int, int] = {}

    async def remove(self, handles: Iterable[int], at_once: int) -> None:
        """They are."""
        del handles, at_once

    async def create(self, items: Sequence[object], at_once: int) -> list[int]:
        """None of them."""
        del at_once
        return [NO_MORE] * len(items)


async def test_what_cannot_be_monitored_anew_is_not_passed_over(begun: Begun) -> None:
    """It is returned with its status, so that it is seen Bad, and is looked for again."""
    mine, _ = begun
    items, session = mine._items, mine._session  # noqa: SLF001 - no server can be made to refuse just then
    assert session is not None
    refusing: Any = Refusing()
    assert await items.renew([1, 99], session, refusing) == {1: NO_MORE}
    assert items.absent == {1: NO_MORE}


async def test_what_does_not_change_is_left_as_it_is(begun: Begun) -> None:
    """Numbers and texts that stay the same are asked for and nothing comes of it."""
    mine, heard = begun
    session: Any = mine._session  # noqa: SLF001 - what it has asked
    asked = session.requests
    await wait_for(lambda: _asked(heard, session, asked + 3), 20)
    assert {tag: len(entries) for tag, entries in heard.of.items()} == {1: 1, 2: 1, 3: 1}
    assert (heard.lost, mine.tend()) == (0, ())


async def _asked(heard: Heard, session: Any, number: int) -> bool:  # noqa: ANN401 - the source's own
    """Read on until so many requests were made; publishing is counted too, acknowledging a keep-alive is not."""
    await heard.until(2, (0.0, 0))
    return bool(session.requests >= number)


def _silence(plant: Plant, name: str) -> None:
    """The server forgets whom to tell of a node."""
    space = plant.server.iserver.aspace
    node = plant.nodes[name].nodeid
    attribute = space._nodes[node].attributes[AttributeIds.Value]  # noqa: SLF001 - breaking the peer
    assert attribute.datachange_callbacks
    attribute.datachange_callbacks.clear()
