"""What every command prints with: one console, tables or JSON, English or Chinese."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from app.commands.messages import ZH
from app.commands.mistakes import line
from app.settings import variable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from app.config.document import DocumentError

out: Final = Console(highlight=False, soft_wrap=True)
err: Final = Console(stderr=True, highlight=False, soft_wrap=True)


class _Language:
    """Which language people are spoken to in; `--lang` decides, else the locale."""

    chosen = ""


def choose(language: str) -> None:
    """`en`, `zh-CN`, or empty for the locale's."""
    _Language.chosen = language


def chinese() -> bool:
    """Whether people are spoken to in Chinese."""
    language = _Language.chosen or variable("LC_ALL") or variable("LC_MESSAGES") or variable("LANG") or ""
    return language.lower().startswith("zh")


def t(text: str, **values: object) -> str:
    """A text in the language in use, `{names}` filled in."""
    chosen = ZH.get(text, text) if chinese() else text
    return chosen.format(**values) if values else chosen


def fail(text: str, code: int = 1) -> typer.Exit:
    """Print what is wrong where the operator looks; raise what this returns."""
    err.print(text, style="red", markup=False)
    return typer.Exit(code)


def mistakes(error: DocumentError, file: object) -> typer.Exit:
    """Print everything that is wrong with a plant file, a line each; raise what this returns."""
    for one in error.mistakes:
        err.print(line(one) if chinese() else str(one), markup=False)
    return fail(t("{count} mistakes in {file}.", count=len(error.mistakes), file=file))


def as_json(value: Any) -> None:  # noqa: ANN401 - whatever a command has found
    """Print JSON for programs."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value, enc_hook=str)).decode() + "\n")


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], numbers: Sequence[int] = ()) -> None:
    """Print a table for people; `numbers` are the columns to be right-aligned."""
    made = Table(title=title or None, title_justify="left", header_style="bold")
    for index, column in enumerate(columns):
        made.add_column(column, justify="right" if index in numbers else "left", overflow="fold")
    for row in rows:
        made.add_row(*("" if cell is None else str(cell) for cell in row))
    out.print(made, markup=False)
