"""Payload layouts against whatever may come: nothing is raised, nothing passes in silence, size breaks nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.mqtt import layouts
from connectors.mqtt.options import TagOptions
from tests.connectors.mqtt_layouts import tag, taken

LEAST: dict[str, dict[str, object]] = {"binary": {"at": 0, "type": "uint8"}}
"""What a format cannot do without."""


@pytest.mark.parametrize("name", layouts.names())
def test_contract(name: str) -> None:
    """Each layout takes only what a tag has, and names as a tag's own only what it knows."""
    layout = layouts.load(name)
    assert set(TagOptions.model_fields) >= layout.TAKES
    assert set(layout.Options.model_fields) >= layout.OF_TAG


@pytest.mark.parametrize("name", layouts.names())
@pytest.mark.parametrize("charset", ["utf-8", "gbk", "utf-16"])
@given(payload=st.binary(max_size=200))
def test_any_bytes(name: str, charset: str, payload: bytes) -> None:
    """Whatever bytes come, in whatever layout, they are readings or refusals, never an exception and never nothing."""
    options = {"format": name, "layout": LEAST.get(name, {})}
    if "charset" in layouts.load(name).TAKES:
        options["charset"] = charset
    place = "#/0" if name == "csv" else ""
    rows = taken(payload, tag(place, "any", **options), tag("#/a/b", "any", 2, **options))
    assert rows.tags or rows.refused


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(["n", "bn", "t", "bt", "v", "bv", "vs", "vd", "s", "u", "bver", "timestamp", "values", "errors",
                         "tags", "name", "value", "error", "ts", "a"]),
        inner, max_size=5),
    max_leaves=25,
)  # fmt: skip


@pytest.mark.parametrize("name", ["senml", "neuron", "thingsboard"])
@given(document=JSON)
def test_any_json(name: str, document: object) -> None:
    """Whatever JSON comes, with a layout's own words in any place, nothing is raised."""
    rows = taken(document, tag("#/a", "any", format=name))
    assert rows.tags or rows.refused


@pytest.mark.parametrize("name", ["json", "senml", "neuron", "thingsboard", "csv", "scalar"])
def test_limits(name: str) -> None:
    """Deep nesting and 5 MB of anything are refused, not fallen over."""
    for payload in (b"[" * 5_000_000, b'{"a":' * 1_000_000, b"9" * 5_000_000, b'"' * 5_000_000):
        rows = taken(payload, tag("#/a", "float", format=name))
        assert rows.refused
        assert not rows.tags


def test_five_megabytes_of_records() -> None:
    """A large pack is read whole, for many tags at once."""
    pack = b"[" + b",".join(b'{"n":"s%d","v":%d,"t":%d}' % (n % 100, n, -n) for n in range(150_000)) + b"]"
    rows = taken(pack, *[tag(f"#/s{n}", "float", n, format="senml") for n in range(100)])
    assert (len(rows.tags), rows.refused) == (150_000, {})
