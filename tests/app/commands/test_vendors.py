"""`headrace vendors`: the reference page, one maker's part of it, and compose overrides, all from the vendor files."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from inference.adapters.chip import chips

DOCS = Path(__file__).parents[3] / "docs"
PAGES = {"en": DOCS / "reference" / "accelerators.md", "zh-CN": DOCS / "zh-CN" / "reference" / "accelerators.md"}
Run = Callable[..., Result]


@pytest.mark.parametrize("language", sorted(PAGES))
def test_the_page_is_current(run: Run, language: str) -> None:
    """`headrace vendors --markdown` was run after the last change of a vendor file."""
    made = run("vendors", "--markdown", "--lang", language)
    assert made.exit_code == 0
    assert made.stdout == PAGES[language].read_text(encoding="utf-8")


@pytest.mark.parametrize("language", sorted(PAGES))
def test_every_table_is_one(run: Run, language: str) -> None:
    """Each row has as many cells as its head: no text of a vendor file breaks the table."""
    width = 0
    tables = 0
    for line in run("vendors", "--markdown", "--lang", language).stdout.splitlines():
        if not line.startswith("|"):
            width = 0
            continue
        tables += not width
        width = width or line.count("|")
        assert line.count("|") == width, line
    assert tables == 3 + len(chips())


def test_the_pages_say_the_same(run: Run) -> None:
    """Names, versions and commands are those of the other language, line by line."""
    english, chinese = (run("vendors", "--markdown", "--lang", language).stdout for language in ("en", "zh-CN"))
    start = "## Overview", "## 概览"
    parts = [text[text.index(mark):].splitlines() for text, mark in zip((english, chinese), start, strict=True)]
    assert len(parts[0]) == len(parts[1])
    for one, other in zip(*parts, strict=True):
        assert re.findall(r"`[^`]+`", one) == re.findall(r"`[^`]+`", other)
        assert re.sub(r"[^0-9]", "", one) == re.sub(r"[^0-9]", "", other)


def test_the_page_says_plainly_that_nothing_was_tried(run: Run) -> None:
    """`documented` is explained before the first maker, and stands in every one's part."""
    english, chinese = (run("vendors", "--markdown", "--lang", language).stdout for language in ("en", "zh-CN"))
    assert "**`documented` means that it was not tried.**" in english[:english.index("## Overview")]
    assert "**`documented` 表示未经试用。**" in chinese[:chinese.index("## 概览")]
    for chip in chips():
        assert f"## {chip.maker.en} (`{chip.vendor}`)" in english
        assert f"## {chip.maker.zh} (`{chip.vendor}`)" in chinese
        for route in chip.routes:
            assert f"| {route.name} | `{route.kind}` | `{route.evidence}` |" in english


def test_the_page_says_whose_sessions_take_turns(run: Run) -> None:
    """Those that the vendor files name, and no others."""
    for language, mark in (("en", "end the process when two of its sessions run at once"), ("zh-CN", "使进程崩溃")):
        lines = run("vendors", "--markdown", "--lang", language).stdout.splitlines()
        at = next(number for number, line in enumerate(lines) if mark in line)
        assert re.findall(r"`(\w+)`", " ".join(lines[at:at + 2])) == ["webgpu"]


def test_one_maker_is_told_of_alone(run: Run) -> None:
    """Its part of the page, with the recipe; what is in no document is said to be so."""
    told = run("vendors", "ascend").stdout
    assert told.startswith("## Huawei Ascend (`ascend`)")
    assert "pip install 'onnxruntime-cann==1.24.4' 'numpy<2'" in told
    assert "- PCI device ids: not documented" in told
    assert "Biren" not in told
    assert run("vendors", "ascend", "--lang", "zh-CN").stdout.startswith("## 华为昇腾 (`ascend`)")


def test_every_maker_stands_in_the_table(run: Run) -> None:
    """One line each, with the level of evidence."""
    lines = run("vendors").stdout.splitlines()
    for chip in chips():
        (line,) = [one for one in lines if f"│ {chip.vendor} " in one]
        assert chip.evidence in line
    assert "not tried by us" in lines[-1]


def test_a_maker_that_nobody_knows(run: Run) -> None:
    """The answer names those there are, in either language."""
    for words in (("vendors", "ascent"), ("vendors", "--compose")):
        found, chinese = run(*words), run(*words, "--lang", "zh-CN")
        assert found.exit_code == chinese.exit_code == 1
        assert all("ascend, biren" in one.stderr for one in (found, chinese))
        assert found.stderr != chinese.stderr


def test_an_override_is_printed(run: Run) -> None:
    """What stands in deploy/ is what the command prints."""
    kept = (DOCS.parent / "deploy" / "compose.ascend.yml").read_text(encoding="utf-8")
    assert run("vendors", "ascend", "--compose").stdout == kept
