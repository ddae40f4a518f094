"""Tags changed in the text of a plant file: what is not concerned stays as it stands, comments and all."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import yaml

from app.config.document import Document, DocumentError, parse
from app.config.sheets import flow

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

TAGS: Final = "tags"
BY_HAND: Final = "the file is written in a way that cannot be changed piece by piece: put the tags into it by hand"


class EditError(ValueError):
    """The text cannot be changed so that it says what it should; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Edits:
    """What to do with the tags of a plant file."""

    added: Sequence[Mapping[str, Any]] = ()
    """Tags to be put behind those that are there."""
    changed: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    """Position in `tags` -> key -> new value."""


@dataclass(frozen=True, slots=True)
class _Cut:
    start: int
    end: int
    text: str


def edited(document: Document, edits: Edits) -> str:
    """The text with these edits. EditError unless it then says exactly what it said, and these."""
    root = yaml.compose(document.text, Loader=yaml.SafeLoader)
    tags = _value(root, TAGS) if isinstance(root, yaml.MappingNode) else None
    written = document.data.get(TAGS) or []
    if not isinstance(written, list) or (root is not None and _anchored(root) & _inside(tags, edits)):
        raise EditError(BY_HAND)
    cuts = [cut for index, keys in edits.changed.items() for cut in _change(document.text, tags, index, keys)]
    if edits.added:
        cuts.append(_add(document.text, root, tags, edits.added))
    text = document.text
    for cut in sorted(cuts, key=lambda one: (one.start, one.end), reverse=True):
        text = text[: cut.start] + cut.text + text[cut.end :]
    wanted = [{**one, **edits.changed.get(index, {})} for index, one in enumerate(written)] + list(edits.added)
    _held(document, text, wanted)
    return text


def _held(document: Document, text: str, wanted: list[Any]) -> None:
    """The text is read again: it must say what is wanted, and all else as before."""
    try:
        found = parse(text, document.file).data
    except DocumentError as error:
        raise EditError(BY_HAND) from error
    if found.get(TAGS, []) != wanted or {**found, TAGS: None} != {**document.data, TAGS: None}:
        raise EditError(BY_HAND)


def _value(node: yaml.MappingNode, key: str) -> yaml.Node | None:
    return next((value for name, value in node.value if name.value == key), None)


def _nodes(node: yaml.Node) -> Iterator[yaml.Node]:
    yield node
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key
            yield from _nodes(value)
    elif isinstance(node, yaml.SequenceNode):
        for one in node.value:
            yield from _nodes(one)


def _anchored(root: yaml.Node) -> set[int]:
    """Nodes that stand in more than one place: changing one would change the others."""
    seen: set[int] = set()
    twice: set[int] = set()
    for node in _nodes(root):
        (twice if id(node) in seen else seen).add(id(node))
    return twice


def _inside(tags: yaml.Node | None, edits: Edits) -> set[int]:
    if not isinstance(tags, yaml.SequenceNode):
        return set()
    return {id(node) for index in edits.changed for node in _nodes(tags.value[index])} | {id(tags)}


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _end(text: str, node: yaml.Node) -> int:
    """Where a node really ends: a block collection's own mark is where the next thing begins."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(text, last[1] if isinstance(last, tuple) else last)
    return len(text[: node.end_mark.index].rstrip())


def _line_end(text: str, at: int) -> int:
    """The end of the line, before its line break."""
    found = text.find("\n", at)
    return len(text) if found < 0 else found - (text[found - 1 : found] == "\r")


def _change(text: str, tags: yaml.Node | None, index: int, keys: Mapping[str, Any]) -> Iterator[_Cut]:
    item = tags.value[index] if isinstance(tags, yaml.SequenceNode) else None
    if not isinstance(item, yaml.MappingNode):
        raise EditError(BY_HAND)
    fresh = []
    for key, value in keys.items():
        node = _value(item, key)
        if node is None:
            fresh.append(f"{key}: {flow(value)}")
        else:
            yield _Cut(node.start_mark.index, max(node.start_mark.index, _end(text, node)), _spaced(text, node, value))
    name = _value(item, "name")
    if fresh and name is not None:
        after = _end(text, name)
        if item.flow_style:
            yield _Cut(after, after, "".join(f", {one}" for one in fresh))
        else:
            at, before = _line_end(text, after), _newline(text) + " " * item.start_mark.column
            yield _Cut(at, at, "".join(before + one for one in fresh))


def _spaced(text: str, node: yaml.Node, value: object) -> str:
    """A value where another stood; one that was empty stood right behind its colon."""
    return (" " if text[node.start_mark.index - 1 : node.start_mark.index] == ":" else "") + flow(value)


def _add(
    text: str, root: yaml.Node | None, tags: yaml.Node | None, added: Sequence[Mapping[str, Any]]
) -> _Cut:
    newline = _newline(text)
    if tags is None:
        gap = "" if not text or text.endswith("\n") else newline
        lines = "".join(f"  - {flow(dict(one))}{newline}" for one in added)
        return _Cut(len(text), len(text), f"{gap}{newline if root is not None else ''}{TAGS}:{newline}{lines}")
    if isinstance(tags, yaml.SequenceNode) and tags.value:
        after = _end(text, tags.value[-1])
        if tags.flow_style:
            return _Cut(after, after, "".join(f", {flow(dict(one))}" for one in added))
        at, before = _line_end(text, after), newline + " " * tags.start_mark.column
        return _Cut(at, at, "".join(f"{before}- {flow(dict(one))}" for one in added))
    # `tags:` or `tags: []`
    lines = "".join(f"{newline}  - {flow(dict(one))}" for one in added)
    return _Cut(tags.start_mark.index, max(tags.start_mark.index, _end(text, tags)), lines)
