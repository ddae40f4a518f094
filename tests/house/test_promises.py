"""Each promise that nothing is lost names a test that exists, and both languages name the same ones."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TOP = Path(__file__).parents[2]
PAGES = ("docs/explanation/no-loss.md", "docs/zh-CN/explanation/no-loss.md")
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
Named = tuple[str, str]


def named(text: str) -> list[Named]:
    """File and function of each test that a page names, in its order."""
    return [(file, name) for file, name in NAMED.findall(text)]


def unfulfilled(text: str) -> list[str]:
    """Rows of the table of promises without a test."""
    rows = [line for line in text.splitlines() if line.startswith("|")][2:]
    return [row for row in rows if len(named(row)) != 1]


def absent(tests: list[Named], top: Path) -> list[Named]:
    """Those that are no function of a test file."""
    return [(file, name) for file, name in tests if not (top / file).is_file() or name not in _functions(top / file)]


def _functions(file: Path) -> set[str]:
    body = ast.parse(file.read_text(encoding="utf-8")).body
    return {one.name for one in body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_each_promise_names_a_test_that_exists() -> None:
    """In both languages the same tests, in the same order."""
    english, chinese = ((TOP / page).read_text(encoding="utf-8") for page in PAGES)
    assert named(english)
    assert named(english) == named(chinese)
    assert unfulfilled(english) == unfulfilled(chinese) == []
    assert absent(named(english), TOP) == []


def test_a_promise_without_its_test_is_found(tmp_path: Path) -> None:
    """Whether the row names none, its file is not there, or the file has no such function."""
    table = "| promise | test |\n|---|---|\n| a | `tests/a.py::test_a` |\n"
    assert unfulfilled(table) == []
    assert unfulfilled(table + "| b | later |\n") == ["| b | later |"]
    assert absent(named(table), tmp_path) == [("tests/a.py", "test_a")]
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "a.py").write_text("async def test_a(): ...\ntest_b = 1\n")
    assert absent(named(table), tmp_path) == []
    assert absent([("tests/a.py", "test_b")], tmp_path) == [("tests/a.py", "test_b")]
