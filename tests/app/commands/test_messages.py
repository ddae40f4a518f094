"""Everything the command line says to people exists in Chinese, with the same values filled in."""

from __future__ import annotations

import ast
import string
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from app import cli
from app.commands import helps
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


def shown(*words: str) -> str:
    """What the command line prints, on a wide terminal."""
    return CliRunner().invoke(cli.main, words, env={"COLUMNS": "400"}).output


def commands() -> dict[tuple[str, ...], Any]:
    """Every command by the words it is called with; a group of commands is one too."""
    group: Any = typer.main.get_group(cli.main)
    found: dict[tuple[str, ...], Any] = {(): group}
    for name, one in group.commands.items():
        found[(name,)] = one
        found |= {(name, inner): each for inner, each in getattr(one, "commands", {}).items()}
    return found


@pytest.mark.parametrize("words", sorted(commands()))
def test_help_explains_itself_in_chinese(words: tuple[str, ...]) -> None:
    """Every command, argument and option, wherever the language stands; and nothing of the English stays."""
    english, chinese = shown("--lang=en", *words, "--help"), shown(*words, "--help", "--lang", "zh-CN")
    given = {text: said for text, said in helps.ZH.items() if text in english}
    assert len(given) >= 2
    assert [text for text in given if text in chinese] == []
    assert [said for said in given.values() if said not in chinese] == []


def test_every_help_has_its_chinese_and_is_given() -> None:
    """A new or reworded sentence without a translation fails here."""
    found = commands().values()
    texts = {text for one in found for text in (one.help, *(getattr(each, "help", "") for each in one.params))}
    told = {part for text in texts for part in (text or "").split("\n\n") if part}
    assert told - helps.ZH.keys() == set()
    assert helps.ZH.keys() - told - {text for text in helps.ZH if text in shown("--lang=en", "--help")} == set()
