"""Everything the command line says to people exists in Chinese, with the same values filled in."""

from __future__ import annotations

import ast
import string
from pathlib import Path

from app.commands.messages import ZH

COMMANDS = Path(__file__).parents[3] / "app" / "commands"


def texts(node: ast.AST) -> set[str]:
    """The plain texts within a node."""
    return {one.value for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str)}


def translates(node: ast.AST) -> bool:
    """Whether this is a call of `t`."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "t"


def said() -> set[str]:
    """Every text that is translated: what `t` is called with, by itself or over a row of column names."""
    found: set[str] = set()
    for file in COMMANDS.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and translates(node) and node.args:
                found |= texts(node.args[0]) if isinstance(node.args[0], ast.Constant) else set()
            if isinstance(node, ast.ListComp) and translates(node.elt):
                found |= texts(node.generators[0].iter)
    return found


def fields(text: str) -> set[str]:
    """The names in braces."""
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_every_text_has_its_chinese() -> None:
    """A new sentence without a translation fails here."""
    assert len(said()) > 40
    assert said() - ZH.keys() == set()


def test_a_translation_fills_in_the_same_values() -> None:
    """No value is dropped or invented."""
    assert {text for text, chinese in ZH.items() if fields(text) != fields(chinese)} == set()
