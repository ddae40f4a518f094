"""Every file keeps every rule of the house, and every rule finds what breaks it."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

import pytest

from tests.house.rules import RULES, Rule, Source

TOP = Path(__file__).parents[2]
MOST_BYTES = 2**20
SAMPLES = ("examples/", "tests/upgrades/fixtures/")
EACH = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name.replace(" ", "-"))


@cache
def contents() -> tuple[tuple[str, bytes], ...]:
    """Every file that is in the repository or would come into it."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=TOP,
        capture_output=True,
        check=True,
    )
    paths = [p for p in listed.stdout.decode().split("\0") if p and (TOP / p).is_file()]
    return tuple((p, (TOP / p).read_bytes()) for p in paths)


@cache
def files() -> tuple[Source, ...]:
    """Those of them that are text."""
    texts = ((p, _text(content)) for p, content in contents())
    return tuple(Source(p, text) for p, text in texts if text is not None)


def _text(content: bytes) -> str | None:
    """None for what is no text: models, arrays, pictures."""
    try:
        return None if b"\0" in content else content.decode()
    except UnicodeDecodeError:
        return None


@EACH
def test_every_file_keeps_it(rule: Rule) -> None:
    """No file of the project breaks the rule."""
    broken = [f"{source.path}: {what}" for source in files() if rule.applies(source) for what in rule.broken(source)]
    assert not broken, "\n".join(broken)


@EACH
def test_what_breaks_it_is_found(rule: Rule) -> None:
    """Each sample that breaks the rule is one it looks at, and is found; what comes close is not."""
    for sample in rule.bad:
        assert rule.applies(sample), sample
        assert list(rule.broken(sample)), sample
    for sample in rule.good:
        assert not rule.applies(sample) or not list(rule.broken(sample)), sample


@EACH
def test_it_looks_at_something(rule: Rule) -> None:
    """The rule applies to files that are there: one that looks at nothing would always be kept."""
    assert [source.path for source in files() if rule.applies(source)]


def test_what_is_no_text_is_a_small_example() -> None:
    """Models and arrays of the examples, boxes of earlier releases; no wheel or database that a command has left."""
    found = {p: len(content) for p, content in contents() if _text(content) is None}
    assert found
    assert [p for p, size in found.items() if size > MOST_BYTES or not p.startswith(SAMPLES)] == []
