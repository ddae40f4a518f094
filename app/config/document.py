"""A YAML file as data, with the place of everything in it, so that each mistake can name its line."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import yaml

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MAX_BYTES: Final = 8 * 2**20
MAX_NODES: Final = 500_000
"""Aliases unfold: a small file can stand for a very large one."""
MAX_DEPTH: Final = 40

Place: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, order=True)
class Mistake:
    """One thing wrong with a plant file; line and column count from 1, 0 where there is none."""

    file: str
    line: int
    column: int
    message: str
    hint: str = ""

    def __str__(self) -> str:
        """`plant.yaml:12:5: message (hint)`."""
        return f"{self.file}:{self.line}:{self.column}: {self.message}" + (f" ({self.hint})" if self.hint else "")


class DocumentError(Exception):
    """The file cannot be used; `mistakes` says everything that is wrong with it."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        """At least one mistake."""
        super().__init__("\n".join(str(one) for one in mistakes))
        self.mistakes = tuple(sorted(mistakes))


@dataclass(slots=True)
class Document:
    """What a YAML file holds."""

    file: str
    text: str
    data: Any
    marks: dict[Place, tuple[int, int]] = field(default_factory=dict)

    def known(self, place: Sequence[str | int]) -> Place:
        """A place without the parts that are not in the file."""
        known: Place = ()
        for part in place:
            if (*known, part) in self.marks:
                known = (*known, part)
        return known

    def at(self, place: Sequence[str | int], message: str, hint: str = "") -> Mistake:
        """A mistake at a place, or as near as the file has it."""
        line, column = self.marks.get(self.known(place), (1, 1))
        return Mistake(self.file, line, column, message, hint)


class _Reader:
    """Turns composed nodes into data, noting where each began."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.marks: dict[Place, tuple[int, int]] = {}
        self.mistakes: list[Mistake] = []
        self._nodes = 0
        self._loader = yaml.SafeLoader("")

    def value(self, node: yaml.Node, place: Place) -> Any:  # noqa: ANN401 - any YAML value
        self._nodes += 1
        if self._nodes > MAX_NODES or len(place) > MAX_DEPTH:
            self.wrong(node, f"the file unfolds to more than {MAX_NODES} values or {MAX_DEPTH} levels")
            raise DocumentError(self.mistakes)
        self.marks.setdefault(place, (node.start_mark.line + 1, node.start_mark.column + 1))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, place)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(child, (*place, index)) for index, child in enumerate(node.value)]
        try:
            return self._loader.construct_object(node)
        except (yaml.YAMLError, ValueError) as error:
            self.wrong(node, f"this value cannot be read: {error}")
            return None

    def _mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, child in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.wrong(key, "a key must be a plain word")
                continue
            name = str(key.value)
            if name in found:
                self.wrong(key, f"{name!r} stands here twice", "remove one of them")
            self.marks[(*place, name)] = (key.start_mark.line + 1, key.start_mark.column + 1)
            found[name] = self.value(child, (*place, name))
        return found

    def wrong(self, node: yaml.Node, message: str, hint: str = "") -> None:
        mark = node.start_mark
        self.mistakes.append(Mistake(self.file, mark.line + 1, mark.column + 1, message, hint))


def parse(text: str, file: str) -> Document:
    """A document out of text. DocumentError when it is no YAML, too large, or says a key twice."""
    if len(text) > MAX_BYTES:
        raise DocumentError([Mistake(file, 0, 0, f"the file is larger than {MAX_BYTES} bytes")])
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        message = f"this is no YAML: {error.problem or error.context}"
        raise DocumentError([Mistake(file, line, column, message, "look at indentation and quotes")]) from error
    except (yaml.YAMLError, RecursionError) as error:
        raise DocumentError([Mistake(file, 0, 0, f"this is no YAML: {error}")]) from error
    reader = _Reader(file)
    data = {} if root is None else reader.value(root, ())
    if not isinstance(data, dict):
        reader.mistakes.append(Mistake(file, 1, 1, "the file must be a mapping: version, connections, tags, …"))
    if reader.mistakes:
        raise DocumentError(reader.mistakes)
    return Document(file, text, data, reader.marks)


def read(path: Path) -> Document:
    """A document out of a UTF-8 file. DocumentError when it cannot be read."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
        text = raw.decode("utf-8-sig")
    except OSError as error:
        raise DocumentError([Mistake(str(path), 0, 0, f"cannot be read: {error.strerror}")]) from error
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise DocumentError([Mistake(str(path), line, 1, "is not UTF-8", "save it as UTF-8, not GBK")]) from error
    return parse(text, str(path))


def nearest(word: str, known: Sequence[str]) -> str:
    """`did you mean …` where one of the known words is close, else what there is."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    shown = ", ".join(sorted(known)[:12])
    return f"there are: {shown}" if shown else "there are none"
