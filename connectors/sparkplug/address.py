"""A tag's address: `GROUP/NODE#METRIC` or `GROUP/NODE/DEVICE#METRIC`; and the topics of Sparkplug (3.0, 4.1)."""

from __future__ import annotations

from typing import Final, NamedTuple

NAMESPACE: Final = "spBv1.0"
STATE: Final = "STATE"
BIRTHS: Final = ("NBIRTH", "DBIRTH")
KINDS: Final = frozenset({"NBIRTH", "NDEATH", "DBIRTH", "DDEATH", "NDATA", "DDATA"})
"""What edge nodes send; commands are other hosts' business."""
HOW: Final = (
    "write `Plant1/Edge7/Press#Motor/Speed`: group, edge node, a device if there is one, `#`, the metric's name"
)
LONGEST: Final = 65_535
"""Bytes of a topic (MQTT 5, 1.5.4)."""
SEPARATORS: Final = frozenset("/+#\0")


class Key(NamedTuple):
    """An edge node."""

    group: str
    node: str


class Address(NamedTuple):
    """Where a tag lives."""

    node: Key
    device: str
    """Empty for a metric of the node itself."""
    metric: str


class Topic(NamedTuple):
    """Whose message this is, and of what kind."""

    kind: str
    node: Key
    device: str


def check_id(text: str) -> str | None:
    """What is wrong with the id of a group, a node, a device or a host (3.0, 4.1), or None."""
    if not text or SEPARATORS.intersection(text):
        return f"{text!r} is no id: it is empty or holds `/`, `+` or `#`"
    return None


def check(address: str) -> str | None:
    """What is wrong with an address and how to write it, or None."""
    place, mark, metric = address.partition("#")
    parts = place.split("/")
    if not mark or not metric or len(parts) not in (2, 3) or any(check_id(part) for part in parts):
        return f"{address!r} does not name a metric: {HOW}"
    if len(address.encode(errors="replace")) > LONGEST:
        return f"{address!r} is longer than {LONGEST} bytes"
    return None


def split(address: str) -> Address:
    """The parts of an address. ValueError when `check` does not accept it."""
    problem = check(address)
    if problem:
        raise ValueError(problem)
    place, _, metric = address.partition("#")
    group, node, *device = place.split("/")
    return Address(Key(group, node), device[0] if device else "", metric)


def written(node: Key, device: str, metric: str) -> str:
    """The address of a metric."""
    return f"{'/'.join((*node, device) if device else node)}#{metric}"


def topic_of(text: str) -> Topic | None:
    """What a topic says; None when it is not that of an edge node's message."""
    parts = text.split("/")
    if len(parts) not in (4, 5) or parts[0] != NAMESPACE or parts[2] not in KINDS:
        return None
    if (parts[2][0] == "D") != (len(parts) == 5):  # noqa: PLR2004 - as many levels as a device's topic has
        return None
    return Topic(parts[2], Key(parts[1], parts[3]), parts[4] if len(parts) == 5 else "")  # noqa: PLR2004


def state_topic(host_id: str) -> str:
    """Where a host says whether it is online."""
    return f"{NAMESPACE}/{STATE}/{host_id}"


def command_topic(node: Key) -> str:
    """Where a node hears us."""
    return f"{NAMESPACE}/{node.group}/NCMD/{node.node}"
