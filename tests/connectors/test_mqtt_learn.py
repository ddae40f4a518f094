"""Learn mode: every layout is recognised, every usable proposal reads what was heard, memory is bounded."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from app.launcher import servers
from app.selftest.gate import Gate
from connectors import NotConnectedError, Proposal, Status, TagBinding
from connectors.mqtt import browse, heard, learn
from connectors.mqtt.heard import Heard
from connectors.mqtt.learn import proposals
from connectors.mqtt.mapping import Mapping, Rows
from tests.connectors.mqtt_publisher import publish

NOW = time.time_ns()
MS = NOW // 1_000_000
LOCAL = datetime.now(timezone(timedelta(hours=8)))
SLASHED = LOCAL.strftime("%Y/%m/%d %H:%M:%S")
DASHED = LOCAL.strftime("%Y-%m-%d %H:%M:%S")
ZULU = datetime.fromtimestamp(NOW / 1e9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
DA = {"192": 0, "64": 0x40000000, "0": 0x80000000}
Wanted = dict[str, tuple[str, str, dict[str, Any], str]]
"""Place -> name, datatype, options, unit."""


def text(value: object) -> bytes:
    """A JSON payload."""
    return json.dumps(value, ensure_ascii=False).encode()


CASES: dict[str, tuple[bytes, str, Wanted]] = {
    "nested": (
        text({"ts": MS, "temp": {"value": 23.5, "unit": "°C"}, "pos": {"a/b": [1, 2]}, "quality": "Good"}),
        "json",
        {
            "#/temp/value": ("temp", "float", {"time": "/ts", "time_format": "ms", "quality": "/quality"}, "°C"),
            "#/pos/a~1b": ("a/b", "array", {"time": "/ts", "time_format": "ms", "quality": "/quality"}, ""),
        },
    ),
    "samples": (
        text({"device": "d", "t": ZULU, "samples": [{"v": 1.5}, {"v": 2.5}]}),
        "json",
        {
            "#/device": ("device", "string", {"time": "/t", "time_format": "iso"}, ""),
            "#/v": ("v", "float", {"time": "^/t", "time_format": "iso", "each": "/samples"}, ""),
        },
    ),
    "records": (
        text([{"at": MS * 1000, "v": 1.5}, {"at": MS * 1000 + 5, "v": 2.5}]),
        "json",
        {"#/v": ("v", "float", {"time": "/at", "time_format": "us", "each": ""}, "")},
    ),
    "by position": (
        text({"metrics": [{"name": "T1", "value": 1.5, "uom": "bar", "ts": MS}, {"name": "T2", "value": True}]}),
        "json",
        {
            "#/metrics/0/value": ("T1", "float", {"time": "/metrics/0/ts", "time_format": "ms"}, "bar"),
            "#/metrics/1/value": ("T2", "boolean", {}, ""),
        },
    ),
    "local time": (
        text({"时间": DASHED, "料位": 3.5}),
        "json",
        {"#/料位": ("料位", "float", {"time": "/时间", "time_format": "iso", "time_zone": "Asia/Shanghai"}, "")},
    ),
    "opc da": (
        text({"v": 1.5, "q": 192, "t": MS // 1000}),
        "json",
        {"#/v": ("v", "float", {"time": "/t", "time_format": "s", "quality": "/q", "quality_map": DA}, "")},
    ),
    "array": (b"[1, 2, 3]", "json", {"": ("array", "array", {}, "")}),
    "quoted": (b'"abc"', "json", {"": ("quoted", "string", {}, "")}),
    "number": (b"23.5\n", "scalar", {"": ("number", "float", {}, "")}),
    "comma": (b"23,5", "scalar", {"": ("comma", "float", {"decimal_comma": True}, "")}),
    "switch": (b"On", "scalar", {"": ("switch", "boolean", {"value_map": {"On": True, "Off": False}}, "")}),
    "truth": (b"true", "scalar", {"": ("truth", "boolean", {}, "")}),
    "word": (b"RUNNING", "text", {"": ("word", "string", {}, "")}),
    "broken": (b'{"a": 1', "text", {"": ("broken", "string", {}, "")}),
    "senml": (
        text([{"bn": "dev:", "bt": MS / 1000, "n": "t", "u": "Cel", "v": 2.5}, {"n": "on", "vb": True}]),
        "senml",
        {"#/dev:t": ("dev:t", "float", {}, "Cel"), "#/dev:on": ("dev:on", "boolean", {}, "")},
    ),
    "neuron": (
        text({"timestamp": MS, "node": "plc", "group": "g", "values": {"t1": 23.5, "s": "x"}, "errors": {}}),
        "neuron",
        {"#/t1": ("t1", "float", {}, ""), "#/s": ("s", "string", {}, "")},
    ),
    "neuron tags": (
        text({"timestamp": MS // 1000, "tags": [{"name": "t1", "value": 23.5}]}),
        "neuron",
        {"#/t1": ("t1", "float", {"time_format": "s"}, "")},
    ),
    "thingsboard": (
        text([{"ts": MS, "values": {"temp": 23.5}}]),
        "thingsboard",
        {"#/temp": ("temp", "float", {}, "")},
    ),
    "gateway": (
        text({"Device A": [{"ts": MS, "values": {"temp": 23.5}}]}),
        "thingsboard",
        {"#/Device A/temp": ("temp", "float", {"layout": {"gateway": True}}, "")},
    ),
    "csv": (
        f"Time;T;S\n{SLASHED};23,5;a\n{SLASHED};24,5;b\n".encode(),
        "csv",
        {
            f"#/{name}": (
                name,
                datatype,
                {
                    "decimal_comma": True,
                    "layout": {"delimiter": ";", "header": True},
                    "time": "/Time",
                    "time_format": "%Y/%m/%d %H:%M:%S",
                    "time_zone": "Asia/Shanghai",
                },
                "",
            )
            for name, datatype in (("T", "float"), ("S", "string"))
        },
    ),
    "bare csv": (
        f"{MS},23.5\n".encode(),
        "csv",
        {"#/1": ("column 1", "float", {"time": "/0", "time_format": "ms"}, "")},
    ),
    "gzip": (gzip.compress(b'{"a": 1.5}'), "json", {"#/a": ("a", "float", {"compression": "gzip"}, "")}),
    "gbk": (
        '{"状态": "运行", "温度": 23.5}'.encode("gbk"),
        "json",
        {"#/状态": ("状态", "string", {"charset": "gbk"}, ""), "#/温度": ("温度", "float", {"charset": "gbk"}, "")},
    ),
    "gbk word": ("运行中".encode("gbk"), "text", {"": ("gbk word", "string", {"charset": "gbk"}, "")}),
    "bom": (b"\xef\xbb\xbf" + b'{"a": 1.5}', "json", {"#/a": ("a", "float", {}, "")}),
    "image": (b"\xff\xd8\xff\xe0" + b"x" * 50 + b"\xff\xd9", "image", {"": ("image", "any", {}, "")}),
    "gzip image": (
        gzip.compress(b"\xff\xd8\xff\xe0" + b"x" * 50 + b"\xff\xd9"),
        "image",
        {"": ("gzip image", "any", {"compression": "gzip"}, "")},
    ),
}


def proposed(*messages: tuple[str, bytes]) -> list[Proposal]:
    """What is proposed after these messages."""
    listened = Heard()
    for topic, payload in messages:
        listened.message(topic, payload, NOW)
    return list(proposals(listened, 10.0))


@pytest.mark.parametrize("name", CASES)
def test_a_layout_is_recognised(name: str) -> None:
    """Layout, places, names, types, units and what a tag needs; and what is proposed reads the very message."""
    payload, layout, wanted = CASES[name]
    found = proposed((f"x/{name}", payload))
    told = {
        one.address.removeprefix(f"x/{name}"): (
            one.name,
            one.datatype,
            {key: value for key, value in one.options.items() if key != "format"},
            one.unit,
        )
        for one in found
    }
    assert {one.layout for one in found} == {layout}
    assert told == wanted
    assert [one.note for one in found if not one.usable] == []
    tags = [TagBinding(n, one.address, one.datatype, one.options) for n, one in enumerate(found)]
    rows = Rows()
    Mapping(tags).add(f"x/{name}", payload, rows, NOW)
    assert (rows.refusals(), set(rows.tags)) == ((), set(range(len(tags))))
    assert set(rows.status) == {Status.GOOD}
    timed = {n for n, one in enumerate(found) if "time" in one.options}
    assert all(abs(when - NOW) < 60e9 for tag, when in zip(rows.tags, rows.times, strict=True) if tag in timed)


@pytest.mark.parametrize(
    ("topic", "payload", "said"),
    [
        ("x/bin", bytes(range(200)), "200 bytes: 00 01 02"),
        ("x/latin", "Füllstand äöü".encode("latin-1"), "bytes: "),
        ("x/gzip", gzip.compress(b"x" * 100)[:-9], "cut on the way"),
        ("x/bomb", gzip.compress(b"\0" * 10_000_000), "unpacks to more than"),
        ("spBv1.0/g/DDATA/n/d", b"\x08\x01", "Sparkplug"),
        ("x/cut", b"\xff\xd8\xff\xe0 half a picture", "without its end"),
        ("x/null", b'{"a": null}', "no value was heard"),
    ],
)
def test_what_nobody_can_read_is_not_proposed_as_usable(topic: str, payload: bytes, said: str) -> None:
    """Binary says that it is, with its length and beginning; what is cut or empty says so."""
    (one,) = proposed((topic, payload))
    assert not one.usable
    assert said in one.note


def test_types_settle_as_more_is_heard() -> None:
    """Whole numbers are an integer once there were a few, a measured value otherwise; a mix is anything."""
    for values, datatype in (
        ([1], "float"),
        ([1, 2], "float"),
        ([1, 2, 3], "integer"),
        ([1, 2, 3, 4.5], "float"),
        ([2**60], "integer"),
        ([1, "x"], "any"),
        ([None, True], "boolean"),
        ([{}, 1.5], "any"),
    ):
        (one,) = proposed(*[("x", text({"v": value})) for value in values])
        assert (values, one.datatype) == (values, datatype)


def test_a_value_that_is_not_in_every_message_is_optional() -> None:
    """A tag of it loses nothing when a message comes without."""
    first, second = proposed(("x", text({"a": 1.5, "b": 2.5})), ("x", text({"a": 1.5})))
    assert (dict(first.options), dict(second.options)) == ({}, {"optional": True})
    assert second.usable
    assert second.per_second == pytest.approx(0.1)


def test_the_layout_of_most_messages_counts() -> None:
    """A topic on which something else comes now and then is proposed as what it usually is."""
    found = proposed(*[("x", text({"a": 1.5}))] * 3, ("x", b"offline"))
    assert [one.layout for one in found] == ["json"]


def test_memory_is_bounded() -> None:
    """Topics, values, layouts, samples and payloads have a limit each; what is beyond is said to be cut."""
    listened = Heard()
    for n in range(heard.MOST_TOPICS + 50):
        listened.message(f"x/{n}", b"1.5", NOW)
    assert (len(listened.topics), listened.cut) == (heard.MOST_TOPICS, True)
    listened = Heard()
    for n in range(200):
        listened.message(f"x/{n}", text({f"k{m}": m for m in range(300)}), NOW)
    assert listened.leaves == heard.MOST_LEAVES
    assert listened.cut
    listened = Heard()
    for n in range(40):
        listened.message(f"x/{n}", b'"' + b"x" * 1_000_000 + b'"', NOW)
        listened.message(f"x/{n}", b'"' + b"y" * 1_000_000 + b'"', NOW)
    kept = sum(len(s.payload or b"") for t in listened.topics.values() for s in t.sketches.values())
    assert kept == listened.kept <= heard.KEPT_ALL
    samples = [s for one in proposals(listened, 1) for s in one.samples]
    assert max(map(len, samples)) <= heard.LONGEST_VALUE
    assert any(one.note.startswith("not tried") for one in proposals(listened, 1))


@pytest.mark.parametrize(
    "payload", [b"[" * 100_000, b'{"a":' * 5000 + b"1" + b"}" * 5000, b"\0", b"{}", b"[]", b"[{}]", b"\xff", b"1e999"]
)
def test_strange_payloads_stop_nothing(payload: bytes) -> None:
    """Deep nesting, nothing at all: recognised as something, or as nothing."""
    assert len(proposed(("x", payload), ("y", b"1.5"))) <= 2
    assert [one.address for one in proposed(("x", payload), ("y", b"1.5"))][-1] == "y"


@pytest.mark.asyncio(loop_scope="session")
async def test_a_broker_is_listened_to(broker: servers.Broker) -> None:
    """What is retained and what is published is proposed, with its rate; nothing else of the broker is."""
    await publish(broker, "learn/kept", b"7.5", retain=True)
    access = {"username": broker.user, "password": broker.password}
    url = f"mqtt://{broker.host}:{broker.port}"
    listening = asyncio.create_task(learn(url, "learn/#", 2.0, **access))
    while not listening.done():
        await publish(broker, "learn/live", text({"a": 1.5}))
        await publish(broker, "other/live", text({"a": 1.5}))
    found = {one.address: one for one in (await listening).proposals}
    assert set(found) == {"learn/kept", "learn/live#/a"}
    assert (found["learn/kept"].per_second, found["learn/kept"].samples) == (0.0, ("7.5",))
    assert found["learn/live#/a"].per_second > 1
    await publish(broker, "learn/kept", b"", retain=True)


@pytest.mark.asyncio(loop_scope="session")
async def test_topics_are_a_tree(broker: servers.Broker) -> None:
    """Levels, topics and the values in them, as addresses that can be bound and read; what is silent is Bad."""
    await publish(broker, "tree/a/b", text({"x": {"y": 1.5}}), retain=True)
    await publish(broker, "tree/a", b"23,5", retain=True)
    looking = browse(f"mqtt://{broker.host}:{broker.port}", 1.0, username=broker.user, password=broker.password)
    await looking.connect()
    try:
        _, level, topic = await looking.children(["", "tree/", "tree/a/b"])
        assert [(n.address, n.kind, n.has_children) for n in level.nodes] == [
            ("tree/a", "Topic", False),
            ("tree/a/", "Level", True),
        ]
        assert [(n.address, n.name, n.datatype) for n in topic.nodes] == [("tree/a/b#/x/y", "x.y", "float")]
        one, two, three = await looking.read(["tree/a/b#/x/y", "tree/a", "tree/silent"])
    finally:
        await looking.close()
    assert [(f.value, f.datatype, f.status) for f in (one, two)] == [("1.5", "float", 0), ("23.5", "float", 0)]
    assert Status.severity(three.status) == 2
    for name in ("tree/a/b", "tree/a"):
        await publish(broker, name, b"", retain=True)


@pytest.mark.asyncio(loop_scope="session")
async def test_a_broker_that_goes(broker_gate: Gate, broker: servers.Broker) -> None:
    """Listening ends with the connection, as NotConnectedError."""
    access = {"username": broker.user, "password": broker.password}
    looking = browse(f"mqtt://127.0.0.1:{broker_gate.port}", 30.0, **access)
    await looking.connect()
    asking = asyncio.create_task(looking.children([""]))
    await asyncio.sleep(0)
    await broker_gate.cut()
    with pytest.raises(NotConnectedError):
        await asking
    await looking.close()
