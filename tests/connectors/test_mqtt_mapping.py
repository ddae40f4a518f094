"""Payload to readings: what each mapping takes, and that each kind of bad payload is refused by name."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from connectors import NO_TIME, Refusal, Status, TagBinding
from connectors.mqtt.address import MissingValueError, check, pointer
from connectors.mqtt.mapping import Mapping, Rows, columns
from connectors.mqtt.options import Options, TagOptions
from connectors.mqtt.times import time_of
from connectors.mqtt.values import UnusableError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


def rows_of(payload: object, *tags: TagBinding, topic: str = "t") -> Rows:
    """What these tags make of one message."""
    rows = Rows()
    Mapping(tags).add(topic, payload if isinstance(payload, bytes) else json.dumps(payload).encode(), rows, 0)
    return rows


def one(payload: object, pointer_text: str = "#/x", datatype: str = "float", **options: object) -> Rows:
    """What one tag makes of one message."""
    return rows_of(payload, TagBinding(1, f"t{pointer_text}", datatype, options))


def reason(rows: Rows) -> str:
    """The reason of the one refusal there is."""
    (refusal,) = rows.refusals()
    return refusal.reason


def test_analyser() -> None:
    """One message with a time, a quality and many components feeds many tags."""
    options = {"time": "/t", "time_format": "ms", "quality": "/status"}
    tags = [TagBinding(n, f"t#/values/XMEAS_{n}", "float", options) for n in (23, 24)]
    rows = rows_of({"t": 1764000000123, "status": 0x40930000, "values": {"XMEAS_23": 32.5, "XMEAS_24": 8}}, *tags)
    ids, times, values, status = columns(rows)
    assert ids.tolist() == [23, 24]
    assert times.tolist() == [1764000000123000000] * 2
    assert values.tolist() == [32.5, 8.0]
    assert status.tolist() == [0x40930000] * 2
    assert [column.dtype.str for column in (ids, times, values, status)] == ["<i8", "<i8", "<f8", "<u4"]


def test_records() -> None:
    """One message carries many samples, each with its own value and time; `^` reaches back to the message."""
    message = {"q": "Good", "samples": [{"t": 1000, "torque": 1.5}, {"t": 1010, "torque": 2.5}]}
    rows = one(message, "#/torque", each="/samples", time="/t", time_format="ms", quality="^/q")
    assert (rows.values, rows.times) == ([1.5, 2.5], [1_000_000_000, 1_010_000_000])


def test_one_broken_record() -> None:
    """A record without the value is refused; those around it are taken."""
    rows = one({"s": [{"x": 1}, {}, {"x": None}, {"x": 4}]}, each="/s")
    assert rows.values == [1.0, 4.0]
    assert rows.refusals() == (
        Refusal("t#/x", "missing_value", "nothing at /x", b'{"s": [{"x": 1}, {}, {"x": null}, {"x": 4}]}', 2),
    )


def test_whole_payload() -> None:
    """Without a pointer the payload is the value; as text even what is not JSON."""
    assert rows_of(b"23.5", TagBinding(1, "t")).values == [23.5]
    assert rows_of(b"RUNNING", TagBinding(1, "t", "string", {"format": "text"})).others == {0: "RUNNING"}
    assert reason(rows_of(b"\xff", TagBinding(1, "t", "string", {"format": "text"}))) == "wrong_charset"


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b"{nope", "broken_json"),
        (b"", "broken_json"),
        (b"\xff\xfe", "wrong_charset"),
        (b'{"x": NaN}', "broken_json"),
        (b"[" * 100_000, "broken_json"),
        (b'{"x": 1e999}', "broken_json"),
        ({"y": 1}, "missing_value"),
        ({"x": None}, "missing_value"),
        ([1, 2], "missing_value"),
        ({"x": "12.5"}, "wrong_type"),
        ({"x": True}, "wrong_type"),
        ({"x": [1]}, "wrong_type"),
        ({"x": {}}, "wrong_type"),
        ({"x": 2**64}, "wrong_type"),
    ],
)
def test_bad_payload(payload: object, expected: str) -> None:
    """Each kind of bad payload is refused under its own reason, with its beginning for the operator."""
    rows = one(payload)
    assert not rows.tags
    (refusal,) = rows.refusals()
    assert (refusal.reason, refusal.readings) == (expected, 1)
    assert len(refusal.excerpt) <= 256
    assert refusal.detail


@pytest.mark.parametrize(
    ("value", "datatype", "number", "other"),
    [
        (3, "float", 3.0, None),
        (3.0, "integer", 3.0, None),
        (True, "boolean", 1.0, None),
        ("a", "string", math.nan, "a"),
        (2**53 + 1, "integer", math.nan, 2**53 + 1),
        (-(2**63), "float", math.nan, -(2**63)),
        ({"a": 1}, "any", math.nan, {"a": 1}),
        (["a"], "array", math.nan, ["a"]),
        (False, "any", 0.0, None),
    ],
)
def test_types(value: object, datatype: str, number: float, other: object) -> None:
    """Numbers and booleans are values, all else is kept as it is, and no integer is rounded."""
    rows = one({"x": value}, datatype=datatype)
    assert rows.values == [number] or (math.isnan(rows.values[0]) and math.isnan(number))
    assert rows.others == ({} if other is None else {0: other})


def test_numeric_array() -> None:
    """An array of numbers becomes a numpy array."""
    found = one({"x": [1, 2.5]}, datatype="array").others[0]
    assert isinstance(found, np.ndarray)
    assert found.tolist() == [1.0, 2.5]


@pytest.mark.parametrize(
    ("value", "datatype"),
    [(2.5, "integer"), (1, "boolean"), (1, "string"), (1, "array"), ("a", "array"), ([1], "string")],
)
def test_wrong_types(value: object, datatype: str) -> None:
    """What a tag is not configured to hold is refused."""
    assert reason(one({"x": value}, datatype=datatype)) == "wrong_type"


@pytest.mark.parametrize(
    ("quality", "expected"),
    [("Good", 0), ("GOOD", 0), ("uncertain", Status.UNCERTAIN), ("Bad", Status.BAD), (0x808C0000, 0x808C0000)],
)
def test_quality(quality: object, expected: int) -> None:
    """Quality is a word in any case or a StatusCode."""
    assert one({"x": 1, "q": quality}, quality="/q").status == [expected]


def test_quality_map() -> None:
    """A publisher's own words and numbers are mapped; what is not in the map falls back to the usual."""
    options = {"quality": "/q", "quality_map": {"OK": 0, "192": 0, "maintenance": 0x408F0000}}
    tag = TagBinding(1, "t#/x", options=options)
    found = [rows_of({"x": 1, "q": q}, tag).status[0] for q in ("OK", 192, "maintenance", "bad")]
    assert found == [0, 0, 0x408F0000, Status.BAD]


@pytest.mark.parametrize("quality", ["fine", -1, 2**32, True, None, 1.5])
def test_unknown_quality(quality: object) -> None:
    """A quality that means nothing refuses the reading: it is not taken for Good."""
    assert reason(one({"x": 1, "q": quality}, quality="/q")) == "unknown_quality"
    assert reason(one({"x": 1}, quality="/q")) == "unknown_quality"


@pytest.mark.parametrize("message", [{"x": None, "q": "Bad"}, {"q": "Bad"}])
def test_bad_without_value(message: object) -> None:
    """A Bad reading needs no value."""
    rows = one(message, quality="/q")
    assert rows.status == [Status.BAD]
    assert math.isnan(rows.values[0])
    assert not rows.refused


@pytest.mark.parametrize(
    ("value", "form", "expected"),
    [
        (1764000000, "s", 1764000000_000_000_000),
        (1764000000.25, "s", 1764000000_250_000_000),
        (1764000000123, "ms", 1764000000_123_000_000),
        (1764000000123456, "us", 1764000000_123_456_000),
        (1764000000123456789, "ns", 1764000000_123_456_789),
        (-1, "s", -1_000_000_000),
        ("2025-11-24T16:00:00Z", "iso", 1764000000_000_000_000),
        ("2025-11-24T17:00:00.123456789+01:00", "iso", 1764000000_123_456_789),
        ("1969-12-31T23:59:59.5Z", "iso", -500_000_000),
        (1e30, "s", NO_TIME),
        (2**63, "ns", NO_TIME),
    ],
)
def test_time(value: object, form: str, expected: int) -> None:
    """Every format gives ns since 1970; what int64 cannot hold is the sentinel."""
    assert time_of(value, form) == expected


@pytest.mark.parametrize(
    ("value", "form"),
    [
        ("2025-11-24T16:00:00", "iso"),
        ("yesterday", "iso"),
        (5, "iso"),
        ("2025-13-41T99:00:00Z", "iso"),
        ("5", "ms"),
        (None, "s"),
        (True, "s"),
    ],
)
def test_bad_time(value: object, form: str) -> None:
    """A time without a zone, or of another kind, refuses the reading: it is not guessed."""
    with pytest.raises(UnusableError) as refused:
        time_of(value, form)
    assert refused.value.reason == "bad_time"
    assert reason(one({"x": 1, "t": value}, time="/t", time_format=form)) == "bad_time"


@given(st.datetimes(datetime(1700, 1, 1), datetime(2250, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001 - bounds are naive
def test_iso_is_exact(moment: datetime) -> None:
    """Any moment written as ISO 8601 comes back to the microsecond."""
    past = moment - datetime(1970, 1, 1, tzinfo=UTC)
    assert time_of(moment.isoformat(), "iso") == (past.days * 86_400 + past.seconds) * 10**9 + past.microseconds * 1000


@given(
    JSON,
    st.sampled_from(["float", "integer", "boolean", "string", "array", "any"]),
    st.sampled_from(["#/x", "#", "#/x/0", "#//a"]),
)
def test_any_json(document: object, datatype: str, place: str) -> None:
    """Whatever JSON comes, it is one reading or one refusal, and never an exception."""
    rows = one({"x": document}, place, datatype)
    assert len(rows.tags) + sum(r.readings for r in rows.refusals()) == 1


@given(st.binary(max_size=300))
def test_any_bytes(payload: bytes) -> None:
    """Whatever bytes come, they are one reading or one refusal."""
    rows = one(payload, "#", "any")
    assert len(rows.tags) + sum(r.readings for r in rows.refusals()) == 1


def test_unknown_topic() -> None:
    """A topic without a tag is counted under its name, all its messages in one refusal."""
    rows, mapping = Rows(), Mapping([TagBinding(1, "t#/x")])
    for _ in range(3):
        mapping.add("other", b"{}", rows, 0)
    (refusal,) = rows.refusals()
    assert (refusal.address, refusal.reason, refusal.readings) == ("other", "unknown_topic", 3)


def test_broken_message_counts_its_tags() -> None:
    """A broken payload loses one reading for each tag on its topic."""
    rows = rows_of(b"{", TagBinding(1, "t#/x"), TagBinding(2, "t#/y"))
    assert [r.readings for r in rows.refusals()] == [2]


def test_pointers() -> None:
    """JSON Pointers as RFC 6901, section 5, has them."""
    document = {"foo": ["bar", "baz"], "": 0, "a/b": 1, "m~n": 8, "0": 5}
    cases = {"": document, "/foo": ["bar", "baz"], "/foo/0": "bar", "/": 0, "/a~1b": 1, "/m~0n": 8, "/0": 5}
    assert {text: pointer(text).find(document) for text in cases} == cases
    for text in ("/foo/2", "/foo/-", "/foo/01", "/foo/x", "/nope", "/foo/0/1"):
        with pytest.raises(MissingValueError):
            pointer(text).find(document)


@pytest.mark.parametrize("address", ["plant/a#/x", "plant/a", "a#", "$SYS/x#/y", "a b#/c d"])
def test_right_addresses(address: str) -> None:
    """A topic, with or without a pointer."""
    assert check(address) is None


@pytest.mark.parametrize(
    "options",
    [
        {"time": "/t"},
        {"time_format": "ms"},
        {"time": "t", "time_format": "s"},
        {"each": "^/s"},
        {"format": "text", "quality": "/q"},
    ],
)
def test_tag_options(options: dict[str, object]) -> None:
    """Options that contradict each other are refused when configured."""
    with pytest.raises(ValidationError):
        TagOptions.model_validate(options)


@pytest.mark.parametrize(
    "options",
    [
        {"url": "http://x"},
        {"url": "mqtt://u:p@x"},
        {"url": "mqtt://x", "password": "p"},
        {"url": "mqtt://x", "ca_file": "/x"},
        {"url": "mqtts://x", "certificate_file": "/x"},
        {"url": "mqtt://x", "qos": 3},
        {"url": "mqtt://x", "version": "3.1"},
    ],
)
def test_options(options: dict[str, object]) -> None:
    """A connection that cannot be meant so is refused when configured."""
    with pytest.raises(ValidationError):
        Options.model_validate(options)
