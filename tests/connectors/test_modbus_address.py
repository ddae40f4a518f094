"""How a Modbus connection is configured and planned: addresses, options, limits, beats and blocks."""

from __future__ import annotations

import ast
import math
import subprocess
import sys
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import pytest
from pydantic import ValidationError

import connectors.modbus
from connectors import TagBinding
from connectors.modbus import Options, TagOptions, check_address
from connectors.modbus.address import parse
from connectors.modbus.plan import Beat, blocks
from connectors.modbus.source import MOST_TAGS
from connectors.modbus.values import Span
from tests.connectors.peer_modbus import source, tag


@hypothesis.given(st.floats(0, 1e6), st.floats(0.01, 86_400), st.integers(0, 10_000), st.floats(0, 0.99))
def test_beat(start: float, period: float, beats: int, part: float) -> None:
    """The next beat is the first one later; beats that were missed are left out, and the phase stays."""
    assert Beat(start, period).after(start + (beats + part) * period) == pytest.approx(start + (beats + 1) * period)


SPANS = st.builds(
    Span,
    st.integers(1, 2),
    st.sampled_from(["coil", "holding"]),
    st.integers(0, 400),
    st.integers(1, 4),
)


@hypothesis.given(st.sets(SPANS, max_size=60), st.sets(SPANS, max_size=10), st.integers(0, 40), st.integers(4, 125))
def test_plan(spans: set[Span], bad: set[Span], gap: int, most: int) -> None:
    """Every address that is not bad is in one block, and no block breaks a limit, a table or a gap."""
    options = Options(url="modbus://h", max_gap=gap, max_registers=most, max_bits=most)
    made = list(blocks(spans | bad, options, bad, ()))
    assert sorted(span for block in made for span in block) == sorted(spans - bad)
    for block in made:
        assert len({(span.unit, span.table) for span in block}) == 1
        assert max(span.end for span in block) - block[0].start <= most
        covered = {at for span in block for at in range(span.start, span.end)}
        inside = range(block[0].start, max(covered) + 1)
        assert not any(set(inside[at : at + gap + 1]).isdisjoint(covered) for at in range(len(inside) - gap))


def test_overlapping_tags() -> None:
    """What begins inside a wide number is beside its end, not beside its begin."""
    spans = [Span(1, "holding", 0, 4), Span(1, "holding", 1, 1), Span(1, "holding", 4, 1)]
    assert list(blocks(spans, Options(url="modbus://h", max_gap=0), (), ())) == [spans]


@pytest.mark.parametrize(
    ("address", "table", "start", "count"),
    [
        ("holding:100", "holding", 100, 1),
        ("input:65532:float64", "input", 65_532, 4),
        ("coil:0", "coil", 0, 1),
        ("discrete:65535", "discrete", 65_535, 1),
        ("holding:0:string(250)", "holding", 0, 125),
        ("holding:0:string(3)", "holding", 0, 2),
        ("00001", "coil", 0, 1),
        ("10008", "discrete", 7, 1),
        ("30001", "input", 0, 1),
        ("40001", "holding", 0, 1),
        ("400001", "holding", 0, 1),
        ("465536", "holding", 65_535, 1),
        ("40101:float32", "holding", 100, 2),
    ],
)
def test_addresses(address: str, table: str, start: int, count: int) -> None:
    """Zero-based and classical addresses mean what a PLC engineer expects."""
    found = parse(address)
    assert (found.table, found.start, found.count) == (table, start, count)


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("holding", "no Modbus address"),
        ("Holding:1", "no Modbus address"),
        ("holding:1:int8", "no Modbus address"),
        ("holding:٣", "no Modbus address"),
        ("40001.3:int16", "no Modbus address"),
        ("50001", "no Modbus address"),
        ("4001", "no Modbus address"),
        ("40000", "1 to 65536"),
        ("465537", "1 to 65536"),
        ("holding:65536", "0 to 65535"),
        ("holding:65535:int32", "0 to 65535"),
        ("holding:1.16", "0 to 15"),
        ("holding:1:string(0)", "1 to 250"),
        ("holding:1:string(251)", "1 to 250"),
        ("coil:1.0", "one bit"),
        ("00001:int16", "one bit"),
        ("x" * 100_000, "no Modbus address"),
    ],
)
def test_wrong_addresses(address: str, problem: str) -> None:
    """What is wrong with an address is said in words that help."""
    said = check_address(address)
    assert said is not None
    assert problem in said
    assert len(said) < 400


@pytest.mark.parametrize(
    "options",
    [
        {"url": "http://h"},
        {"url": "modbus://"},
        {"url": "modbus://h:99999"},
        {"url": "modbus://h:0"},
        {"url": "modbus://user:secret@h"},
        {"url": "modbus://h/1"},
        {"unit": 256},
        {"poll_s": 0},
        {"groups": {"a": 0}},
        {"groups": {str(n): 1 for n in range(33)}},
        {"timeout_s": 0},
        {"max_registers": 126},
        {"max_bits": 2001},
        {"word_order": "middle"},
        {"retry_bad_s": 0},
    ],
)
def test_wrong_options(options: dict[str, object]) -> None:
    """Options beyond the limits are refused before anything is opened."""
    with pytest.raises(ValidationError, match=next(iter(options))):
        Options.model_validate({"url": "modbus://h", **options})


@pytest.mark.parametrize("options", [{"scale": 0}, {"scale": math.inf}, {"offset": 1e16}, {"unit": -1}, {"group": ""}])
def test_wrong_tag_options(options: dict[str, object]) -> None:
    """A tag's options have limits too."""
    with pytest.raises(ValidationError, match=next(iter(options))):
        TagOptions.model_validate(options)


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        (tag(1, "holding:0", group="slow"), "no group 'slow'"),
        (tag(1, "coil:0", scale=2), "only numbers"),
        (tag(1, "holding:0:string(4)", offset=2), "only numbers"),
        (tag(1, "holding:0:string(40)"), "max_registers"),
        (tag(1, "nowhere"), "no Modbus address"),
        (tag(1, "holding:0", length=3), "length"),
    ],
)
def test_what_does_not_fit_together(wrong: TagBinding, problem: str) -> None:
    """A tag that cannot be read on this connection is refused with its reason."""
    with pytest.raises(ValueError, match=problem):
        source(502, wrong, max_registers=16)


def test_number_of_tags() -> None:
    """A connection takes so many tags and no more."""
    tags = [tag(n, "holding:0") for n in range(MOST_TAGS + 1)]
    source(502, *tags[:-1])
    with pytest.raises(ValueError, match="at most 20000 tags"):
        source(502, *tags)


def test_no_writing_function_is_named() -> None:
    """The connector calls nothing of the library that writes."""
    named = {
        node.attr
        for path in Path(connectors.modbus.__path__[0]).glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
    }
    assert {"read_coils", "read_discrete_inputs", "read_holding_registers", "read_input_registers"} <= named
    assert not {name for name in named if "write" in name or name == "execute"}


def test_without_the_library() -> None:
    """Without the extra a plant file is checked all the same, and connecting says what to install."""
    script = (
        "import sys; sys.modules['pymodbus'] = None\n"
        "import asyncio, connectors\n"
        "modbus = connectors.load('modbus')\n"
        "assert modbus.check_address('holding:1') is None\n"
        "made = modbus.source(connectors.ConnectionConfig('a', {'url': 'modbus://h'}, (), 1, ''))\n"
        "try:\n"
        "    asyncio.run(made.connect())\n"
        "except connectors.NotInstalledError as error:\n"
        "    print(error)\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "headrace[modbus]" in ran.stdout
