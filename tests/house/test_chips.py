"""What is known of a chip stands in its vendor file: no other code names a maker or runtime, but its toolchain."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from inference.adapters.chip import chips
from inference.chip import Chip

TOP: Final = Path(__file__).parents[2]
GENERAL: Final = frozenset({
    "/usr/lib", "cuda", "dri", "dri/renderD{n}", "npu", "paddle", "torch", "tvm",
})
"""Names that are not one maker's: frameworks, kinds of devices, folders of the system."""


def facts(chip: Chip) -> Iterator[str]:
    """The names by which code could know this chip; an option of one word may be anybody's."""
    yield chip.vendor
    yield from chip.probe.nodes
    yield from chip.probe.beside
    yield from filter(None, (chip.visible.container, chip.visible.process))
    for route in chip.routes:
        yield from filter(None, (route.target, route.package, route.module, *route.libraries, *route.folders))
        for several in (route.precisions or {}).values():
            yield from (key for told in several for key in told if "_" in key)


def named(text: str, known: frozenset[str]) -> list[str]:
    """Facts that stand in code, as a name or as a text of their own."""
    found = []
    for one in ast.walk(ast.parse(text)):
        if isinstance(one, ast.Constant) and isinstance(one.value, str) and one.value in known:
            found.append(one.value)
        if isinstance(one, ast.Name | ast.alias | ast.Attribute):
            name = one.attr if isinstance(one, ast.Attribute) else one.id if isinstance(one, ast.Name) else one.name
            found += [part for part in name.split(".") if part in known]
    return found


KNOWN: Final = frozenset(fact for chip in chips() for fact in facts(chip)) - GENERAL


def test_only_vendor_files_know_chips() -> None:
    """The linter, the passes, the adapters and the service read descriptions; none asks whose chip it is."""
    broken = [
        f"{path.relative_to(TOP)}: {one}"
        for room in ("app", "inference", "connectors") for path in sorted((TOP / room).rglob("*.py"))
        if path.parent not in (TOP / "inference" / "vendors", TOP / "inference" / "toolchains")
        for one in named(path.read_text(encoding="utf-8"), KNOWN)
    ]
    assert broken == []


def test_a_maker_in_code_is_found() -> None:
    """As a text to compare with, as a module, as a provider, as an option; in a sentence it is no code."""
    for bad in ("if vendor == 'ascend': pass", "import rknnlite", "x = 'CANNExecutionProvider'",
                "options = {'precision_mode_v2': 'origin'}", "from inference.vendors import metax"):
        assert named(bad, KNOWN), bad
    assert named('"""One maker, e.g. ascend."""\nhelp = "e.g. ascend; all by default"', KNOWN) == []
    assert len(KNOWN) > 50
