"""What was heard on a broker, in bounded memory: what the messages of each topic seem to be, and their values."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec

from connectors.mqtt.guess import Guess, Leaf
from connectors.mqtt.recognise import recognise
from connectors.mqtt.values import EXACT

MOST_TOPICS: Final = 2000
MOST_LEAVES: Final = 20_000
MOST_LAYOUTS: Final = 4
"""Layouts remembered of one topic."""
MOST_OPTIONS: Final = 4
MOST_SAMPLES: Final = 5
LONGEST_VALUE: Final = 120
KEPT_PAYLOAD: Final = 1_048_576
KEPT_ALL: Final = 32 * 1024 * 1024
"""Bytes of payloads kept to try proposals on."""
EACH: Final = 30
"""Messages of a topic that are all taken apart; of those after them, one in so many."""
TRUSTED: Final = 3
"""Whole numbers in a row that make an integer; fewer may be a measured value that is round by chance."""


@dataclass(slots=True)
class Values:
    """One value of a topic's messages."""

    count: int = 0
    kinds: set[str] = field(default_factory=set)
    needed: Counter[bytes] = field(default_factory=Counter)
    """Options as JSON -> how often a tag would have needed them."""
    leaves: dict[bytes, Leaf] = field(default_factory=dict)
    """The last leaf that needed them."""
    samples: deque[str] = field(default_factory=lambda: deque(maxlen=MOST_SAMPLES))
    empty: int = 0
    """How often there was no value."""

    def note(self, leaf: Leaf) -> None:
        """One more value."""
        self.count += 1
        key = msgspec.json.encode(leaf.options)
        if key in self.needed or len(self.needed) < MOST_OPTIONS:
            self.needed[key] += 1
            self.leaves[key] = replace(leaf, value=None)
        if leaf.value is None:
            self.empty += 1
            return
        self.kinds.add(kind_of(leaf.value))
        said = shown(leaf.value)
        if not self.samples or self.samples[-1] != said:
            self.samples.append(said)

    @property
    def usual(self) -> Leaf:
        """The leaf with the options that were needed most often."""
        return self.leaves[self.needed.most_common(1)[0][0]]

    @property
    def datatype(self) -> str:
        """That of a tag that takes all the values there were."""
        numbers = {"whole", "real", "long"}
        if not self.kinds or (len(self.kinds) > 1 and not self.kinds <= numbers):
            return "any"
        if not self.kinds <= numbers:
            return next(iter(self.kinds))
        whole = "real" not in self.kinds and (self.count - self.empty >= TRUSTED or "long" in self.kinds)
        return "integer" if whole else "float"


def kind_of(value: object) -> str:
    """A word for the type of a value: `boolean`, `whole`, `long` (beyond float64), `real`, `string`, `array`, `any`."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "whole" if -EXACT <= value <= EXACT else "long"
    names = ((float, "real"), (str, "string"), (list, "array"))
    return next((name for kind, name in names if isinstance(value, kind)), "any")


def shown(value: object) -> str:
    """A value for people, shortened."""
    if isinstance(value, str):
        return value[:LONGEST_VALUE]
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    return msgspec.json.encode(value).decode()[:LONGEST_VALUE]


@dataclass(slots=True)
class Sketch:
    """The messages of one topic that seem to be of one layout."""

    values: dict[str, Values] = field(default_factory=dict)
    messages: int = 0
    note: str = ""
    payload: bytes | None = None
    """The last one, where there was room for it."""
    received: int = 0


@dataclass(slots=True)
class Topic:
    """One topic."""

    messages: int = 0
    fresh: int = 0
    """Without those the broker had retained."""
    looked_at: int = 0
    sketches: dict[str, Sketch] = field(default_factory=dict)

    @property
    def usual(self) -> tuple[str, Sketch]:
        """The layout of most messages."""
        return max(self.sketches.items(), key=lambda one: one[1].messages)


@dataclass(slots=True)
class Heard:
    """All that was heard."""

    topics: dict[str, Topic] = field(default_factory=dict)
    messages: int = 0
    leaves: int = 0
    kept: int = 0
    cut: bool = False
    oversize: Counter[str] = field(default_factory=Counter)

    def message(self, topic: str, payload: bytes, received: int, *, retained: bool = False) -> None:
        """Note one message; an empty one only takes a retained one away."""
        self.messages += 1
        if not payload or (topic not in self.topics and len(self.topics) >= MOST_TOPICS):
            self.cut = self.cut or bool(payload)
            return
        one = self.topics.setdefault(topic, Topic())
        one.messages += 1
        one.fresh += not retained
        if one.messages > EACH and one.messages % EACH:
            return
        one.looked_at += 1
        self._sketch(one, recognise(topic, payload, received), payload, received)

    def _sketch(self, topic: Topic, guess: Guess, payload: bytes, received: int) -> None:
        sketch = topic.sketches.get(guess.layout)
        if sketch is None:
            if len(topic.sketches) >= MOST_LAYOUTS:
                return
            sketch = topic.sketches[guess.layout] = Sketch()
        sketch.messages += 1
        sketch.note, sketch.received = guess.note, received
        self._keep(sketch, payload)
        self.cut = self.cut or guess.cut
        for leaf in guess.leaves:
            values = sketch.values.get(leaf.place)
            if values is None:
                if self.leaves >= MOST_LEAVES:
                    self.cut = True
                    return
                self.leaves += 1
                values = sketch.values[leaf.place] = Values()
            values.note(leaf)

    def _keep(self, sketch: Sketch, payload: bytes) -> None:
        before = len(sketch.payload or b"")
        room = self.kept - before + len(payload) <= KEPT_ALL
        if len(payload) <= KEPT_PAYLOAD and room:
            sketch.payload, self.kept = payload, self.kept - before + len(payload)

    def in_order(self) -> Iterator[tuple[str, Topic]]:
        """Topics by name, those whose messages were looked at."""
        return ((name, topic) for name, topic in sorted(self.topics.items()) if topic.sketches)
