"""Payload layouts: what each takes, exactly, and that whatever else comes is refused by name."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest
from pydantic import ValidationError

from connectors import NO_TIME, Status
from connectors.mqtt.mapping import columns
from connectors.mqtt.options import TagOptions
from connectors.mqtt.times import time_of, time_of_text, zone_of
from connectors.mqtt.values import UnusableError
from tests.connectors.mqtt_layouts import NOW, reasons, tag, taken

S = 1_000_000_000
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 20 + b"IEND\xaeB`\x82"
JPEG = b"\xff\xd8\xff\xe0" + b"\0" * 20 + b"\xff\xd9\0\0"


@pytest.mark.parametrize(
    ("payload", "datatype", "value"),
    [(b"23.5", "float", 23.5), (b" -4e2\n", "float", -400.0), (b"true", "boolean", 1.0), (b"False", "any", 0.0)],
)
def test_scalar(payload: bytes, datatype: str, value: float) -> None:
    """A bare word is read by the tag's datatype."""
    assert taken(payload, tag("", datatype, format="scalar")).values == [value]


def test_scalar_words() -> None:
    """`value_map` gives a device's words their meaning; a string tag keeps them."""
    switch = {"format": "scalar", "value_map": {"ON": True, "OFF": False}}
    assert [taken(word, tag("", "boolean", **switch)).values for word in (b"ON", b"OFF")] == [[1.0], [0.0]]
    assert reasons(taken(b"STUCK", tag("", "boolean", **switch))) == [("wrong_type", 1)]
    assert taken(b"12", tag("", "string", format="scalar")).others == {0: "12"}
    assert taken(b"23,5", tag(format="scalar", decimal_comma=True)).values == [23.5]
    assert reasons(taken(b"1.234,5", tag(format="scalar", decimal_comma=True))) == [("wrong_type", 1)]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [(b"", "missing_value"), (b"NaN", "not_finite"), (b"-Inf", "not_finite"), (b"1e999", "not_finite"),
     (b"1" * 5000, "wrong_type"), (b"\xff", "wrong_charset"), ("１２".encode(), "wrong_type")],
)  # fmt: skip
def test_no_scalar(payload: bytes, reason: str) -> None:
    """What is no number is refused by name."""
    assert reasons(taken(payload, tag(format="scalar"))) == [(reason, 1)]


def test_large_integers_stay_exact() -> None:
    """A serial number is not rounded, in whatever layout it comes."""
    big = 2**53 + 1
    packed = {"format": "binary", "layout": {"at": 0, "type": "uint64", "order": "big"}}
    found = [
        taken(str(big).encode(), tag("", "integer", format="scalar")),
        taken([{"n": "a", "v": big}], tag("#/a", "integer", format="senml")),
        taken(f"{big}\n".encode(), tag("#/0", "integer", format="csv")),
        taken(big.to_bytes(8, "big"), tag("", "integer", **packed)),
    ]
    assert [rows.others for rows in found] == [{0: big}] * 4


def test_senml() -> None:
    """Base fields are resolved, times below 2**28 are relative to the receipt, and a sum has a place of its own."""
    pack = [
        {"bn": "urn:dev:1:", "bt": 1320067464, "bu": "%RH", "v": 20, "n": "h"},
        {"n": "h", "t": 60.5, "v": 20.3},
        {"n": "lon", "u": "lon", "bt": -10, "v": 24.5},
        {"n": "on", "t": 10, "vb": True},
        {"n": "name", "vs": "pump"},
        {"n": "raw", "vd": "_-8"},
        {"n": "kwh", "s": 7, "bs": 5},
        {"n": "off", "v": 2, "bv": 0.5},
    ]
    places = [("h", "float"), ("lon", "float"), ("on", "boolean"), ("name", "string"), ("raw", "any"),
              ("kwh/s", "float"), ("off", "float")]  # fmt: skip
    tags = [tag(f"#/urn:dev:1:{place}", kind, n, format="senml") for n, (place, kind) in enumerate(places)]
    rows = taken(pack, *tags)
    ids, times, values, status = columns(rows)
    assert ids.tolist() == [0, 0, 1, 2, 3, 4, 5, 6]
    relative = NOW - 10 * S
    assert times.tolist() == [1320067464 * S, 1320067524 * S + S // 2, relative, NOW, *[relative] * 4]
    assert np.array_equal(values, [20, 20.3, 24.5, 1, np.nan, np.nan, 12, 2.5], equal_nan=True)
    assert rows.others == {4: "pump", 5: b"\xff\xef"}
    assert status.tolist() == [Status.GOOD] * 8
    assert not rows.refused


def test_senml_without_time() -> None:
    """A pack that says nothing of time gives none; one record needs no name in the address."""
    rows = taken([{"n": "a", "v": 1}], tag(format="senml"))
    assert (rows.values, rows.times) == ([1.0], [NO_TIME])


@pytest.mark.parametrize(
    ("pack", "reason"),
    [
        ({"n": "a", "v": 1}, "wrong_layout"),
        ([1], "wrong_layout"),
        ([{"v": 1}], "wrong_layout"),
        ([{"n": "a", "v": 1, "bver": 11}], "wrong_layout"),
        ([{"n": "a", "v": 1, "must_": 1}], "wrong_layout"),
        ([{"n": "a", "v": 1, "bt": "now"}], "wrong_layout"),
        ([{"n": "a", "v": 1, "vs": "x"}], "missing_value"),
        ([{"n": "a"}], "missing_value"),
        ([{"n": "a", "v": True}], "wrong_type"),
        ([{"n": "a", "v": 10**400, "bv": 0.5}], "wrong_type"),
        ([{"n": "a", "u": "K", "v": 1}], "wrong_unit"),
        ([{"n": "b", "u": "Cel", "v": 1}], "missing_value"),
    ],
)
def test_bad_senml(pack: object, reason: str) -> None:
    """A pack that is none, a record in another unit, a field that must be understood."""
    assert reasons(taken(pack, tag("#/a", format="senml", layout={"unit": "Cel"}))) == [(reason, 1)]


NEURON_VALUES = {"timestamp": 1764000000123, "node": "plc", "group": "fast",
                 "values": {"t1": 1.5, "broken": 0}, "errors": {"broken": 3002, "t3": 2014}}  # fmt: skip
NEURON_TAGS = {"timestamp": 1764000000123, "node": "plc", "group": "fast",
               "tags": [{"name": "t1", "value": 1.5, "error": 0}, {"name": "broken", "error": 3002},
                        {"name": "t3", "error": 2014}]}  # fmt: skip


@pytest.mark.parametrize("message", [NEURON_VALUES, NEURON_TAGS], ids=["values", "tags"])
def test_neuron(message: object) -> None:
    """Both formats say the same; an error makes a Bad reading, under the code of `quality_map` if it has one."""
    options = {"format": "neuron", "quality_map": {"3002": Status.BAD_NOT_CONNECTED}}
    places = ("plc/fast/t1", "broken", "t3")
    rows = taken(message, *[tag(f"#/{place}", "float", n, **options) for n, place in enumerate(places)])
    assert (rows.tags, rows.times) == ([0, 1, 2], [1764000000123 * 10**6] * 3)
    assert np.array_equal(rows.values, [1.5, np.nan, np.nan], equal_nan=True)
    assert rows.status == [Status.GOOD, Status.BAD_NOT_CONNECTED, Status.BAD]


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ([], "wrong_layout"),
        ({"values": {"t1": 1}}, "wrong_layout"),
        ({"timestamp": 1}, "wrong_layout"),
        ({"timestamp": "x", "values": {"t1": 1}}, "bad_time"),
        ({"timestamp": 1, "values": [1]}, "wrong_layout"),
        ({"timestamp": 1, "tags": [{"value": 1}]}, "wrong_layout"),
        ({"timestamp": 1, "tags": [{"name": "t1"}]}, "missing_value"),
        ({"timestamp": 1, "errors": {"t1": "off"}}, "unknown_quality"),
    ],
)
def test_bad_neuron(message: object, reason: str) -> None:
    """What Neuron would not send is refused."""
    assert reasons(taken(message, tag("#/t1", format="neuron", optional=False))) == [(reason, 1)]


@pytest.mark.parametrize(
    ("message", "values", "times"),
    [
        ({"ts": 1000, "values": {"k": 1}}, [1.0], [S]),
        ({"k": 2, "other": "x"}, [2.0], [NO_TIME]),
        ([{"ts": 1000, "values": {"k": 1}}, {"k": 2}], [1.0, 2.0], [S, NO_TIME]),
    ],
)
def test_thingsboard(message: object, values: list[float], times: list[int]) -> None:
    """With time, without, and many."""
    rows = taken(message, tag("#/k", format="thingsboard"))
    assert (rows.values, rows.times) == (values, times)


def test_thingsboard_gateway() -> None:
    """A gateway sends for many devices; an entry with a wrong time is lost alone, and what is not there is no loss."""
    message = {"Device A": [{"ts": 1000, "values": {"k": 1, "j": {"x": 5}}}, {"ts": "x", "values": {"k": 2}}], "B": []}
    options = {"format": "thingsboard", "layout": {"gateway": True}}
    places = ("#/Device A/k", "#/Device A/j/x", "#/B/k")
    rows = taken(message, *[tag(place, "float", n, **options) for n, place in enumerate(places)])
    assert (rows.tags, rows.values, rows.times) == ([0, 1], [1.0, 5.0], [S, S])
    assert [(r.address, r.reason) for r in rows.refusals()] == [("t#/Device A/k", "bad_time")]


def test_message_for_nobody() -> None:
    """A sparse message none of whose names has a tag is refused once, with the names it has."""
    rows = taken({"a": 1, "b": 2}, *[tag(f"#/k{n}", "float", n, format="thingsboard") for n in range(9)])
    assert reasons(rows) == [("missing_value", 1)]
    assert "/a, /b" in rows.refusals()[0].detail


def test_csv_with_header() -> None:
    """Columns by name, a local time, quality, decimal commas, quotes; a bad line is lost alone."""
    options = {"format": "csv", "layout": {"delimiter": ";", "header": True}, "decimal_comma": True, "time": "/Time",
               "time_format": "%Y/%m/%d %H:%M:%S", "time_zone": "Asia/Shanghai", "quality": "/Q"}  # fmt: skip
    text = 'Time;Q;T;"Na;me"\r\n2025/11/25 00:00:00;Good;23,5;"a;b"\r\nnoon;Good;1;x\r\n2025/11/25 00:00:01;Bad;;y\r\n'
    rows = taken(text.encode(), tag("#/T", **options), tag("#/Na;me", "string", 2, **options))
    assert rows.tags == [1, 1, 2, 2]
    assert rows.times == [1764000000 * S, 1764000001 * S] * 2
    assert rows.values[0] == 23.5
    assert rows.others == {2: "a;b", 3: "y"}
    assert rows.status == [Status.GOOD, Status.BAD] * 2
    assert reasons(rows) == [("bad_time", 1)] * 2


def test_csv_by_index() -> None:
    """Columns are numbered or named by configuration; what a line lacks is refused."""
    options = {"format": "csv", "time": "/0", "time_format": "s"}
    rows = taken(b"1764000000.123456789,5\n1764000001,\n1764000002\n", tag("#/1", **options))
    assert (rows.times, rows.values) == ([1764000000 * S + 123456789], [5.0])
    assert reasons(rows) == [("missing_value", 2)]
    named = tag("#/b", format="csv", layout={"columns": ["a", "b"]})
    assert taken(b"1,2", named).values == [2.0]
    assert reasons(taken(b"1,2", tag("#/c", format="csv", layout={"columns": ["a", "b"]}))) == [("missing_value", 1)]
    assert reasons(taken(b'1,"2', named)) == [("broken_csv", 1)]
    assert reasons(taken(b"", named)) == [("missing_value", 1)]


@pytest.mark.parametrize(
    ("layout", "value"),
    [
        ({"at": 1, "type": "int8"}, -1.0),
        ({"at": 1, "type": "uint8"}, 255.0),
        ({"at": 0, "type": "uint16", "order": "big"}, 511.0),
        ({"at": 0, "type": "uint16", "order": "little", "scale": 0.5, "offset": 1}, 32641.5),
        ({"at": 2, "type": "float32", "order": "big"}, 1.5),
        ({"at": 6, "type": "float32", "order": "big", "words_swapped": True}, 1.5),
        ({"at": 10, "type": "float64", "order": "little"}, -2.25),
        ({"at": 1, "type": "uint8", "bit": 7}, 1.0),
        ({"at": 0, "type": "uint8", "bit": 1}, 0.0),
    ],
)
def test_binary(layout: dict[str, object], value: float) -> None:
    """Types, byte and word orders, bits and scales."""
    payload = b"\x01\xff" + struct.pack(">f", 1.5) + b"\x00\x00\x3f\xc0" + struct.pack("<d", -2.25)
    datatype = "boolean" if "bit" in layout else "float"
    assert taken(payload, tag("", datatype, format="binary", layout=layout)).values == [value]


def test_binary_records() -> None:
    """Records of equal size, each with its time; an array of some values; sizes that cannot be are refused."""
    layout = {"at": 8, "type": "int16", "order": "little", "start": 2, "stride": 10, "time_at": 0,
              "time_type": "uint64", "time_order": "little"}  # fmt: skip
    options = {"format": "binary", "layout": layout, "time_format": "ms"}
    payload = b"AB" + struct.pack("<Qh", 1000, -5) + struct.pack("<Qh", 2000, 7)
    rows = taken(payload, tag(**options))
    assert (rows.values, rows.times) == ([-5.0, 7.0], [S, 2 * S])
    assert reasons(taken(payload + b"x", tag(**options))) == [("wrong_layout", 1)]
    wave = {"format": "binary", "layout": {"at": 0, "type": "int16", "order": "big", "count": 3}}
    found = taken(struct.pack(">3h", 1, -2, 3), tag("", "array", **wave)).others[0]
    assert isinstance(found, np.ndarray)
    assert found.tolist() == [1.0, -2.0, 3.0]
    assert reasons(taken(b"abc", tag("", "array", **wave))) == [("too_short", 1)]
    nan = {"format": "binary", "layout": {"at": 0, "type": "float32", "order": "big"}}
    assert reasons(taken(struct.pack(">f", float("nan")), tag(**nan))) == [("not_finite", 1)]


@pytest.mark.parametrize("image", [PNG, JPEG], ids=["png", "jpeg"])
def test_image(image: bytes) -> None:
    """An image is kept as its bytes; one that was cut, is too large or is none is refused."""
    assert taken(image, tag("", "any", format="image")).others == {0: image}
    assert reasons(taken(image[:15], tag("", "any", format="image"))) == [("broken_image", 1)]
    assert reasons(taken(image, tag("", "any", format="image", layout={"max_bytes": 10}))) == [("too_large", 1)]
    assert reasons(taken(b"GIF89a", tag("", "any", format="image"))) == [("wrong_layout", 1)]
    assert reasons(taken(image, tag("", "float", format="image"))) == [("wrong_type", 1)]


def test_gzip() -> None:
    """Any layout may come packed, in several members too; a bomb, a cut and a wrong file are refused."""
    packed = {"compression": "gzip"}
    assert taken(gzip.compress(b'{"x"') + gzip.compress(b":1}"), tag("#/x", **packed)).values == [1.0]
    assert taken(gzip.compress(PNG), tag("", "any", format="image", **packed)).others == {0: PNG}
    bomb = gzip.compress(b" " * 20_000_000)
    assert reasons(taken(bomb, tag("#/x", **packed), tag("#/y", **packed))) == [("too_large", 2)]
    assert reasons(taken(gzip.compress(b"x" * 11), tag(**packed, max_unpacked_bytes=10))) == [("too_large", 1)]
    for broken in (b"{}", gzip.compress(b"{}")[:-3], gzip.compress(b"{}") + b"x", b"\x1f\x8bxxxxxxxxxxx"):
        assert reasons(taken(broken, tag("#/x", **packed))) == [("broken_gzip", 1)]
    rows = taken(gzip.compress(b"{}"), tag("#/x"))
    assert "compression: gzip" in rows.refusals()[0].detail


def test_charsets() -> None:
    """GBK is read where configured, refused by name elsewhere; a byte order mark is no content."""
    text = '{"状态": "运行\\u4e2d"}'
    options = {"value_map": {"运行中": True}}
    assert taken(text.encode("gbk"), tag("#/状态", "boolean", charset="gbk", **options)).values == [1.0]
    assert taken(b"\xef\xbb\xbf" + text.encode(), tag("#/状态", "boolean", **options)).values == [1.0]
    assert reasons(taken(text.encode("gbk"), tag("#/状态", "boolean", **options))) == [("wrong_charset", 1)]
    assert reasons(taken(b"\xff\xff", tag("#/0", "string", format="csv", charset="gbk"))) == [("wrong_charset", 1)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2025-11-25 00:00:00.5", 1764000000_500_000_000),
        ("2025-11-24T16:00:00Z", 1764000000_000_000_000),
        ("1986-05-04 02:30:00", "nonexistent_time"),
        ("1986-09-14 01:30:00", "ambiguous_time"),
    ],
)
def test_zone(text: str, expected: object) -> None:
    """A local time counts in its zone; what the clock showed twice or never is refused (China, 1986)."""
    rows = taken({"x": 1, "t": text}, tag("#/x", time="/t", time_format="iso", time_zone="Asia/Shanghai"))
    assert [*rows.times, *(r.reason for r in rows.refusals())] == [expected]


def test_time_text() -> None:
    """Numbers written as text lose no digit; what is none, or far away, is said so."""
    assert time_of_text("1764000000123.456789", "ms") == 1764000000123456789
    assert time_of_text("1e30", "s") == time_of(10**400, "s") == NO_TIME
    wrong = [("", "s"), ("nan", "ms"), ("2025-01-01 00:00:00", "iso"), ("x", "%Y-%m-%d"), ("0001-01-01", "%Y-%m-%d")]
    for text, form in wrong:
        with pytest.raises(UnusableError, match="time"):
            time_of_text(text, form)
    with pytest.raises(UnusableError):
        time_of("9999-12-31 23:59:59", "%Y", zone_of("America/Los_Angeles"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"format": "xml"}, "there are: binary, csv"),
        ({"format": "senml", "time": "/t", "time_format": "s"}, "takes no `time`"),
        ({"layout": {"x": 1}}, "`layout`, x"),
        ({"format": "csv", "layout": {"delimiter": "ab"}}, "delimiter"),
        ({"format": "csv", "decimal_comma": True}, "delimiter"),
        ({"format": "csv", "layout": {"header": True, "columns": ["a"]}}, "header"),
        ({"format": "csv", "time": "/a/b", "time_format": "s"}, "column"),
        ({"format": "binary"}, "`layout`, at"),
        ({"format": "binary", "layout": {"at": 0, "type": "int16"}}, "order"),
        ({"format": "binary", "layout": {"at": 0, "type": "uint8", "bit": 8}}, "no bit"),
        ({"format": "binary", "layout": {"at": 0, "type": "uint8"}, "time_format": "s"}, "together"),
        ({"format": "binary", "layout": {"at": 3, "type": "uint8", "stride": 3}}, "stride"),
        ({"time": "/t", "time_format": "iso", "time_zone": "Asia/Beijin"}, "no time zone"),
        ({"time": "/t", "time_format": "s", "time_zone": "Asia/Shanghai"}, "text"),
        ({"time": "/t", "time_format": "%H:%M"}, "year"),
        ({"time": "/t", "time_format": "minutes"}, "no format"),
        ({"charset": "klingon"}, "charset"),
        ({"compression": "zip"}, "compression"),
        ({"value_map": {"a": [1]}}, "value_map"),
    ],
)
def test_configuration(options: dict[str, object], said: str) -> None:
    """What cannot be meant so is refused when configured, in words."""
    with pytest.raises(ValidationError, match=said):
        TagOptions.model_validate(options)
