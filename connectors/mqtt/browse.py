"""A broker's topics as a tree, from what was heard in a while: levels, topics, and the values in their messages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from connectors import NO_TIME, Branch, Found, Node, Proposal, Status
from connectors.mqtt.address import check, split
from connectors.mqtt.guess import BINARY
from connectors.mqtt.heard import shown
from connectors.mqtt.learn import Listener, proposals, taken

EVERYTHING: Final = "#"
NOTHING: Final = "nothing was heard there"
VALUE: Final = "Value"
TOPIC: Final = "Topic"
LEVEL: Final = "Level"


class MqttBrowser:
    """See `Browser`. The first look listens for some seconds; an address with `/` at its end is a level of topics."""

    def __init__(self, url: str, seconds: float, **credentials: object) -> None:
        """Nothing is opened yet. ValueError for credentials that are not valid."""
        self._listener = Listener(url, **credentials)
        self._seconds = seconds
        self._tree: dict[str, dict[str, Node]] | None = None

    async def connect(self) -> None:
        """See `Browser.connect`."""
        await self._listener.open()

    async def close(self) -> None:
        """See `Browser.close`."""
        await self._listener.close()

    async def children(self, addresses: Sequence[str]) -> list[Branch]:
        """See `Browser.children`."""
        if self._tree is None:
            await self._listener.listen([EVERYTHING], self._seconds)
            self._tree = _tree(list(proposals(self._listener.heard, self._seconds)))
        return [self._branch(address, self._tree) for address in addresses]

    def _branch(self, address: str, tree: dict[str, dict[str, Node]]) -> Branch:
        problem = check(address) if address and not address.endswith("/") else None
        if problem is not None:
            return Branch((), (problem,))
        if address in tree:
            cut = self._listener.heard.cut and not address
            return Branch(tuple(tree[address].values()), ("cut off: there are more topics or values",) if cut else ())
        there = any(address in level for level in tree.values())
        return Branch((), () if there else (f"{address or EVERYTHING}: {NOTHING}",))

    async def read(self, addresses: Sequence[str]) -> list[Found]:
        """See `Browser.read`: the next message of each topic, or what the broker has retained."""
        topics = {address: split(address)[0] for address in addresses if check(address) is None}
        wanted = set(topics.values())
        await self._listener.listen(
            sorted(wanted), self._seconds, lambda: wanted <= self._listener.heard.topics.keys()
        )
        known = {one.address: one for one in proposals(self._listener.heard, self._seconds)}
        return [self._read(address, topics.get(address), known.get(address)) for address in addresses]

    def _read(self, address: str, topic: str | None, known: Proposal | None) -> Found:
        if topic is None:
            return Found(address, address, "", check(address) or "", Status.BAD_NODE_ID_UNKNOWN, NO_TIME)
        heard = self._listener.heard.topics.get(topic)
        if heard is None or not heard.sketches:
            return Found(address, address, "", NOTHING, Status.BAD_NO_COMMUNICATION, NO_TIME)
        layout, sketch = heard.usual
        datatype = known.datatype if known is not None else "any"
        options: dict[str, object] = dict(known.options) if known is not None else {"format": layout}
        if layout == BINARY:
            return Found(address, address, BINARY, sketch.note, Status.BAD_DATA_UNAVAILABLE, NO_TIME)
        rows = taken(address, datatype, options, topic, sketch)
        if not rows.tags:
            said = "; ".join(one.detail for one in rows.refusals()) or NOTHING
            return Found(address, address, "", said, Status.BAD_DATA_UNAVAILABLE, NO_TIME)
        value = rows.others.get(len(rows.tags) - 1, rows.values[-1])
        name = known.name if known is not None else address
        unit = known.unit if known is not None else ""
        return Found(address, name, datatype, _shown(value), rows.status[-1], rows.times[-1], unit)


def _shown(value: object) -> str:
    """A value that a tag took, for people."""
    return shown(value.tolist() if hasattr(value, "tolist") else value)


def _tree(found: Sequence[Proposal]) -> dict[str, dict[str, Node]]:
    """The nodes below each address by their own address."""
    tree: dict[str, dict[str, Node]] = {"": {}}
    for one in found:
        for parent, node in _nodes(one):
            tree.setdefault(parent, {}).setdefault(node.address, node)
    return tree


def _nodes(one: Proposal) -> Iterator[tuple[str, Node]]:
    """A proposal's own node and those above it, each with its parent's address."""
    topic, place = split(one.address)
    *levels, last = topic.split("/")
    parent = ""
    for level in levels:
        address = f"{parent}{level}/"
        yield parent, Node(address, level or "/", LEVEL, has_children=True)
        parent = address
    if not place.tokens:
        yield parent, _leaf(one, last or "/", TOPIC)
        return
    yield parent, Node(topic, last or "/", TOPIC, peer_type=one.layout, has_children=True)
    yield topic, _leaf(one, ".".join(name for name, _ in place.tokens), VALUE)


def _leaf(one: Proposal, name: str, kind: str) -> Node:
    return Node(
        one.address,
        name,
        kind,
        one.datatype if one.usable else "",
        one.layout,
        one.unit,
        readable=one.usable,
        description=one.note,
        options=one.options,
    )
