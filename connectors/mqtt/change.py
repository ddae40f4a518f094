"""From one set of tags to another between two messages: what has to be subscribed to, and what messages mean then."""

from __future__ import annotations

from collections.abc import Mapping as Readonly
from collections.abc import Sequence
from dataclasses import dataclass

from connectors import TagBinding
from connectors.mqtt.address import split
from connectors.mqtt.mapping import Mapping


@dataclass(frozen=True, slots=True)
class Change:
    """What comes after it in the order of arrival is read with these tags."""

    mapping: Mapping
    revision: int
    fresh: Readonly[str, Mapping]
    """Topic with new or changed tags -> those alone: what is retained there is a first value for them only."""
    left: frozenset[str]
    """Topics that have no tag any more."""


def change(before: Sequence[TagBinding], after: Sequence[TagBinding], revision: int) -> Change:
    """Raises ValueError for a tag that cannot be."""
    known = {tag.id: tag for tag in before}
    fresh: dict[str, list[TagBinding]] = {}
    for tag in after:
        if known.get(tag.id) != tag:
            fresh.setdefault(split(tag.address)[0], []).append(tag)
    mapping = Mapping(after)
    left = {split(tag.address)[0] for tag in before} - set(mapping.topics)
    return Change(mapping, revision, {topic: Mapping(tags) for topic, tags in fresh.items()}, frozenset(left))
