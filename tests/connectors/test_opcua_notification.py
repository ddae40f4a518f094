"""PublishResponses whole, cut off and hostile; addresses as an engineer writes them; back pressure."""

from __future__ import annotations

import asyncio
import time
import uuid

import pytest
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.ua_binary import struct_to_binary
from asyncua.ua.uaerrors import UaStatusCodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors import ConnectionConfig, TagBinding
from connectors.opcua.address import check, parse, text_of
from connectors.opcua.decode import UndecodableError
from connectors.opcua.notification import published, republished
from connectors.opcua.options import Options
from connectors.opcua.session import Session
from connectors.opcua.source import OpcUaSource
from connectors.opcua.subscription import BURST_S, Subscription
from tests.connectors.opcua_plant import URI, Plant, string_node
from tests.connectors.test_opcua_source import tag
from tests.waiting import wait_for

GOOD = ua.StatusCode(ua.UInt32(0))


def response(*parts: object, sequence: int = 7, result: ua.StatusCode = GOOD, more: bool = True) -> bytes:
    """A PublishResponse with these notifications."""
    made = ua.PublishResponse()
    made.ResponseHeader.ServiceResult = result
    made.Parameters.SubscriptionId = ua.UInt32(3)
    made.Parameters.AvailableSequenceNumbers = [ua.UInt32(5), ua.UInt32(sequence)]
    made.Parameters.MoreNotifications = more
    made.Parameters.NotificationMessage.SequenceNumber = ua.UInt32(sequence)
    made.Parameters.NotificationMessage.NotificationData = list(parts)
    return struct_to_binary(made)


def changes(*values: float) -> ua.DataChangeNotification:
    """A notification of these values."""
    made = ua.DataChangeNotification()
    for handle, value in enumerate(values):
        item = ua.MonitoredItemNotification()
        item.ClientHandle, item.Value = ua.UInt32(handle), ua.DataValue(ua.Variant(value, ua.VariantType.Double))
        made.MonitoredItems.append(item)
    return made


def test_parts() -> None:
    """Several parts in one message are read in order; events, which nobody asked for, are stepped over."""
    found = published(Buffer(response(changes(1.0, 2.0), ua.EventNotificationList(), changes(3.0))))
    assert (found.subscription, found.more, found.available, found.notification.sequence) == (3, True, (5, 7), 7)
    assert [part.values.tolist() for part in found.notification.parts] == [[1.0, 2.0], [3.0]]
    assert not found.notification.keep_alive


def test_keep_alive() -> None:
    """A message without parts is a keep-alive."""
    assert published(Buffer(response())).notification.keep_alive


def test_status_change() -> None:
    """A server that ends the subscription says with which StatusCode."""
    ended = ua.StatusChangeNotification(ua.StatusCode(ua.UInt32(0x800A0000)))
    assert published(Buffer(response(ended))).notification.ended == 0x800A0000


def test_bad_result() -> None:
    """A bad service result is raised as such."""
    with pytest.raises(UaStatusCodeError):
        published(Buffer(response(result=ua.StatusCode(ua.UInt32(StatusCodes.BadNoSubscription)))))


def test_cut_off() -> None:
    """A response that ends at any place is refused, and never read as a shorter one."""
    whole = response(changes(1.0, 2.0, 3.0))
    for end in range(len(whole) - 12):
        try:
            found = published(Buffer(whole[:end]))
        except UndecodableError:
            continue
        assert found.notification.broken


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 400), st.binary(min_size=1, max_size=8))
def test_damaged(at: int, damage: bytes) -> None:
    """Damaged bytes are refused or read, and nothing else is raised."""
    whole = bytearray(response(changes(*range(10))))
    at %= len(whole)
    whole[at : at + len(damage)] = damage
    for read in (published, republished):
        try:
            read(Buffer(bytes(whole)))
        except (UndecodableError, UaStatusCodeError):
            continue


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("nsu=urn:a;s=Tank;Level=1", "String"),
        ("ns=2;s=x", "String"),
        ("i=2258", "Numeric"),
        ("nsu=urn%3Ba;i=5", "Numeric"),
        (f"nsu=urn:a;g={uuid.UUID(int=5)}", "Guid"),
        ("ns=3;b=AQID", "ByteString"),
    ],
)
def test_right_addresses(text: str, kind: str) -> None:
    """Every kind of identifier, with a namespace's URI, its index, or none."""
    assert check(text) is None
    assert parse(text).kind.name == kind


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Tank",
        "s=",
        "x=5",
        "i=4294967296",
        "i=five",
        "g=nothing",
        "b=***",
        "ns=70000;s=x",
        "nsu=;s=x",
        "s=" + "x" * 5000,
    ],
)
def test_wrong_addresses(text: str) -> None:
    """What is no NodeId gets a sentence that says how to write one."""
    assert "nsu=http://example.com/plant;s=Tank.Level" in str(check(text))


def test_namespaces() -> None:
    """A URI is looked up on the server at hand, and written back so that it can be read again."""
    namespaces = ["http://opcfoundation.org/UA/", "urn:a;b%"]
    node = parse("nsu=urn:a%3Bb%25;s=x").node_id(namespaces)
    assert node == string_node("x", 1)
    assert text_of(string_node("x", 1), namespaces) == "nsu=urn:a%3Bb%25;s=x"
    assert parse("nsu=urn:other;s=x").node_id(namespaces) is None
    assert text_of(string_node("x", 9), namespaces) == "ns=9;s=x"


@pytest.mark.asyncio(loop_scope="session")
async def test_back_pressure(plant: Plant, data_dir: str) -> None:
    """When readings wait in memory no more are asked for; once they are taken the rest comes, and none is lost."""
    options = Options.model_validate({"url": plant.url, "security": "None", "publishing_interval_ms": 20})
    session = Session(options, "pressed", data_dir)
    await session.open()
    index = await plant.server.get_namespace_index(URI)
    subscription = Subscription(session, options, most_waiting=3)
    await subscription.create([monitored(index)], 10)
    newest = max(plant.subscriptions().items())[1]
    for number in range(12):
        await plant.write("Level", 7000.0 + number)
        await wait_for(lambda: not newest._triggered_datachanges or newest._publish_cycles_count, what="sent or held")  # noqa: SLF001
    await wait_for(lambda: newest._publish_cycles_count > 5, what="the server finds no request to answer")  # noqa: SLF001
    found: list[float] = []
    while 7011.0 not in found:
        await subscription.ready()
        found += [value for part in subscription.take(1).parts for value in part.values.tolist()]
    assert found[-12:] == [7000.0 + number for number in range(12)]
    await subscription.close()
    await session.close()


def monitored(index: int) -> ua.MonitoredItemCreateRequest:
    """The plant's Level under handle 0."""
    item = ua.MonitoredItemCreateRequest()
    item.ItemToMonitor.NodeId = string_node("Level", index)
    item.ItemToMonitor.AttributeId = ua.UInt32(13)
    item.MonitoringMode = ua.MonitoringMode.Reporting
    item.RequestedParameters.QueueSize = ua.UInt32(100)
    return item


def test_source_refuses_a_wrong_address(data_dir: str) -> None:
    """A source with an address that is none is not made."""
    tags = (tag(1, "Level"), TagBinding(2, "nonsense"))
    with pytest.raises(ValueError, match="not a NodeId"):
        OpcUaSource(ConnectionConfig("x", {"url": "opc.tcp://h:1"}, tags, 1, data_dir))


class Burst:
    """A subscription that is handed a server's answers one by one; the servers of these tests never say `more`."""

    def __init__(self) -> None:
        """Nothing has arrived."""
        options = Options(url="opc.tcp://127.0.0.1:4840", security="None")
        self.subscription = Subscription(Session(options, "burst", ""), options)
        self.subscription._id = 3  # noqa: SLF001 - as a server would have said
        self.sequence = 0

    async def answer(self, *values: float, more: bool) -> None:
        """The server's next answer."""
        self.sequence += 1
        sent = response(changes(*values), sequence=self.sequence, more=more)
        await self.subscription._arrived(Buffer(sent))  # noqa: SLF001 - what its pump does

    def took(self) -> list[list[float]]:
        """All that has arrived, as one batch takes it."""
        return [part.values.tolist() for part in self.subscription.take(100).parts]


async def test_a_burst_is_one_batch() -> None:
    """Where the server says that more comes, the rest is waited for."""
    burst = Burst()
    await burst.answer(1.0, 2.0, more=True)
    ready = asyncio.create_task(burst.subscription.ready())
    await burst.answer(3.0, more=True)
    await asyncio.sleep(0)
    assert not ready.done()
    await burst.answer(4.0, more=False)
    await asyncio.wait_for(ready, 5)
    assert burst.took() == [[1.0, 2.0], [3.0], [4.0]]


async def test_the_rest_of_a_burst_is_not_waited_for_in_vain() -> None:
    """What has come is taken when the rest stays away, and at once when it is enough."""
    burst = Burst()
    await burst.answer(1.0, 2.0, more=True)
    with pytest.raises(StopIteration):
        burst.subscription.ready(most=2).send(None)
    began = time.monotonic()
    await asyncio.wait_for(burst.subscription.ready(), 5)
    assert time.monotonic() - began >= 0.9 * BURST_S
    assert burst.took() == [[1.0, 2.0]]
