"""`headrace browse` and `read`: a real server walked by the real commands."""

from __future__ import annotations

import csv
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from app.commands.tag_list import named
from app.commands.walking import matches, walk
from app.config import sheets
from connectors import Branch, Found, Node
from tests.app.commands.process import headrace
from tests.connectors.opcua_machines import MACHINES, Machines, machines

HERE = MACHINES.replace(";", "%3B")
UNIT = f"path:/Objects/nsu={HERE};Press/nsu={HERE};Unit&.1"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def made() -> AsyncIterator[Machines]:
    """One server for these tests."""
    async with machines() as running:
        yield running


async def answered(*words: object) -> Any:  # noqa: ANN401 - whatever was printed
    """Run a command with `--json`; what it printed."""
    code, printed, complained = await headrace("--lang", "en", *map(str, words), "--json")
    assert code == 0, complained
    return json.loads(printed)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_level_at_a_time(made: Machines) -> None:
    """Without a depth one level is told, from Objects or from an address by NodeId or by path."""
    top = await answered("browse", made.url)
    assert {"Press", "Many"} <= {node["path"] for node in top["nodes"]}
    assert all("/" not in node["path"] for node in top["nodes"])
    unit = await answered("browse", made.url, UNIT)
    (temperature,) = (node for node in unit["nodes"] if node["name"] == "Temp")
    assert (temperature["datatype"], temperature["unit"], temperature["readable"]) == ("float", "°C", True)


@pytest.mark.asyncio(loop_scope="module")
async def test_tags_by_pattern_are_a_list_that_can_be_bound(made: Machines, tmp_path: Path) -> None:
    """What matches at any depth is written as tags, here by path; the circle in the server ends the walk, not us."""
    file = tmp_path / "tags.csv"
    words = ("browse", made.url, "--match", "T*", "--match", "Many/M0[1-3]", "--tags", file, "--by-path")
    found = await answered(*words, "--connection", "plc")
    assert {node["path"] for node in found["nodes"]} == {
        "Press/Unit.1/Temp",
        "Press/Unit.1/Text",
        "Many/M01",
        "Many/M02",
        "Many/M03",
    }
    rows = list(csv.DictReader(file.read_text(encoding="utf-8-sig").splitlines()))
    assert {row["name"]: (row["datatype"], row["unit"]) for row in rows} == {
        "Temp": ("float", "°C"),
        "Text": ("string", ""),
        "M01": ("float", ""),
        "M02": ("float", ""),
        "M03": ("float", ""),
    }
    assert {row["connection"] for row in rows} == {"plc"}
    read = await answered("read", made.url, *(row["address"] for row in rows))
    assert [one["value"] for one in read] == ["20.5", "idle", "1.0", "2.0", "3.0"]


@pytest.mark.asyncio(loop_scope="module")
async def test_people_get_tables(made: Machines) -> None:
    """A table in the language in use; a Bad value is shown, and is the exit status."""
    code, printed, _ = await headrace("--lang", "zh-CN", "browse", made.url, UNIT)
    assert (code, "数据类型" in printed, "°C" in printed) == (0, True, True)
    code, printed, _ = await headrace("--lang", "en", "read", made.url, "i=2258", f"nsu={HERE};s=Nobody")
    assert (code, "Bad" in printed, "Good" in printed) == (1, True, True)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("browse", "opc.tcp://127.0.0.1:1"), 1),
        (("browse", "modbus://127.0.0.1"), 2),
        (("browse", "{url}", "no address"), 1),
        (("browse", "{url}", "--security", "Nothing"), 2),
        (("browse", "{url}", "--tags", "{folder}/x.doc"), 1),
        (("browse", "{url}", "--tags", "{folder}/no/x.csv"), 1),
    ],
)
async def test_what_goes_wrong_is_a_sentence(words: tuple[str, ...], code: int, made: Machines, tmp_path: Path) -> None:
    """No traceback, whatever is asked."""
    given = [word.format(url=made.url, folder=tmp_path) for word in words]
    status, _, complained = await headrace("--lang", "en", *given)
    assert (status, len(complained.strip().splitlines())) == (code, 1), complained


class Circle:
    """An address space that is one circle of two nodes, with a thousand leaves at each."""

    async def connect(self) -> None:
        """Nothing to open."""

    async def children(self, addresses: Sequence[str]) -> list[Branch]:
        """The other node, and the leaves."""
        leaves = tuple(Node(f"leaf{n}", f"leaf{n}", "Variable", "float") for n in range(1000))
        return [Branch((Node({"b": "a"}.get(a, "b"), "next", "Object", has_children=True), *leaves)) for a in addresses]

    async def read(self, addresses: Sequence[str]) -> list[Found]:
        """Nothing to read."""
        assert not addresses
        return []

    async def close(self) -> None:
        """Nothing to close."""


async def test_a_walk_ends() -> None:
    """A circle is entered once, and no more nodes than wanted are asked about."""
    found = await walk(Circle(), "", 60, 100_000)
    assert (found.count, found.notes) == (3003, [])
    cut = await walk(Circle(), "", 60, 1500)
    assert (cut.count, cut.notes) == (1500, ["cut off after 1500 nodes"])


@pytest.mark.parametrize(
    ("pattern", "path", "fits"),
    [
        ("Temp*", "Press/Unit/Temperature", True),
        ("Temp*", "Press/Temp/Value", False),
        ("Press/*/Temp", "Press/Unit/Temp", True),
        ("Press/*/Temp", "Press/Unit/Oil/Temp", False),
        ("Press/**/Temp", "Press/Unit/Oil/Temp", True),
        ("Press/**/Temp", "Press/Temp", True),
        ("Press/**", "Press/Unit/Oil", True),
        ("**/Oil/*", "Press/Oil/Temp", True),
        ("M[0-2]?", "M15", True),
        ("m15", "M15", False),
        ("a.c", "abc", False),
        ("/".join(["**", "*"] * 20 + ["x"]), "/".join(["a"] * 60), False),
    ],
)
def test_patterns(pattern: str, path: str, fits: bool) -> None:  # noqa: FBT001 - a case
    """A name stands for itself at any depth; with `/` the whole path is meant; `**` is any number of names."""
    assert matches(pattern, path.split("/")) is fits


def test_names_are_short_and_each_its_own() -> None:
    """As much of the end of a path as tells it from others, without what no name may hold."""
    assert named([("P", "a", "T"), ("P", "b", "T"), ("P", "Level"), ("x/y#", "z+"), ("P", "Level", "q")]) == [
        "a.T",
        "b.T",
        "Level",
        "z_",
        "q",
    ]
    assert named([("a", "b"), ("a", "b")]) == ["a.b_1", "a.b_2"]
    long = named([("x" * 200, "T"), ("y" * 200, "T"), ("y" * 200, "T")])
    assert len(set(long)) == 3
    assert all(0 < len(name) <= 100 for name in long)
    assert named([]) == []


def test_a_list_as_yaml_is_the_section_of_a_plant_file() -> None:
    """Each tag on a line, Chinese as it is, texts that YAML would misread in quotes."""
    text = sheets.as_yaml([{"name": "料位", "address": "a#/b: c", "options": {"value_map": {"ON": True}}}])
    assert text == "tags:\n  - {name: 料位, address: 'a#/b: c', options: {value_map: {'ON': true}}}\n"
