"""Payload to readings: what a message on a topic means for each tag, and what in it cannot be taken."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from connectors import Refusal, TagBinding
from connectors.mqtt import layouts
from connectors.mqtt.address import Pointer, split
from connectors.mqtt.body import Body
from connectors.mqtt.options import TagOptions
from connectors.mqtt.values import Convert, UnusableError, converter, is_bad, value_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydantic import BaseModel

EXCERPT: Final = 256
MISSING: Final = "missing_value"


@dataclass(frozen=True, slots=True)
class Binding:
    """One tag, ready to be looked up in a message."""

    tag: int
    address: str
    place: Pointer
    datatype: str
    layout: BaseModel
    convert: Convert | None
    optional: bool

    @classmethod
    def of(cls, tag: TagBinding, place: Pointer, options: TagOptions) -> Binding:
        """That of a tag with these options."""
        layout = layouts.load(options.format)
        convert = converter(
            options.value_map, tag.datatype, untyped=layout.UNTYPED, decimal_comma=options.decimal_comma
        )
        optional = layout.SPARSE if options.optional is None else options.optional
        return cls(tag.id, tag.address, place, tag.datatype, options.of_layout(), convert, optional)


@dataclass(frozen=True, slots=True)
class Group:
    """Tags that one reading of a message serves."""

    reader: layouts.Reader
    bindings: list[Binding]


@dataclass(slots=True)
class Rows:
    """Readings under construction, and what was refused, merged by address and reason."""

    tags: list[int] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    status: list[int] = field(default_factory=list)
    others: dict[int, object] = field(default_factory=dict)
    refused: dict[tuple[str, str], tuple[str, bytes, int]] = field(default_factory=dict)

    def refuse(self, address: str, problem: UnusableError, payload: bytes, readings: int = 1) -> None:
        """Count something that cannot be taken; the first excerpt is kept."""
        detail, excerpt, n = self.refused.get((address, problem.reason), (str(problem), payload[:EXCERPT], 0))
        self.refused[address, problem.reason] = (detail, excerpt, n + readings)

    def refusals(self) -> tuple[Refusal, ...]:
        """All that was refused."""
        return tuple(
            Refusal(a, reason, detail, excerpt, n) for (a, reason), (detail, excerpt, n) in self.refused.items()
        )


class Mapping:
    """All tags of a connection, by topic."""

    def __init__(self, tags: Iterable[TagBinding]) -> None:
        """Raises ValueError for an address or options that are not valid."""
        self._topics: dict[str, dict[str, Group]] = {}
        for tag in tags:
            options = TagOptions.model_validate(tag.options)
            topic, place = split(tag.address)
            groups, key = self._topics.setdefault(topic, {}), options.reading_key()
            if key not in groups:
                groups[key] = Group(layouts.load(options.format).reader(options, options.of_layout()), [])
            groups[key].bindings.append(Binding.of(tag, place, options))

    @property
    def topics(self) -> Sequence[str]:
        """Every topic a tag is on."""
        return tuple(self._topics)

    def add(self, topic: str, payload: bytes, rows: Rows, received: int) -> None:
        """Put the readings of one message into `rows`, and refuse there what cannot be one.

        `received`, in ns, is what times relative to now are relative to.
        """
        groups = self._topics.get(topic)
        if groups is None:
            detail = "no tag is on this topic: add one, or narrow the subscription"
            rows.refuse(topic, UnusableError("unknown_topic", detail), payload)
            return
        body = Body(payload, received)
        absent = [_read(topic, group, body, rows) for group in groups.values()]
        if all(one is not None for one in absent):
            rows.refuse(topic, next(one for one in absent if one is not None), payload)


def _read(topic: str, group: Group, body: Body, rows: Rows) -> UnusableError | None:
    """Readings and refusals of one group; if its tags are all absent, and may be, what to say if so are all others."""
    try:
        found = group.reader.read(body)
    except UnusableError as problem:
        rows.refuse(topic, problem, body.payload, len(group.bindings))
        return None
    absent: UnusableError | None = None
    told = False
    for binding in group.bindings:
        try:
            problem_of = _take(binding, found, body, rows)
        except UnusableError as problem:
            rows.refuse(binding.address, problem, body.payload)
            problem_of = None
        told = told or problem_of is None
        absent = absent or problem_of
    return None if told else absent


def _take(binding: Binding, found: layouts.Found, body: Body, rows: Rows) -> UnusableError | None:
    """The readings of one tag; what is missing if it may be missing and is."""
    try:
        points = found.points(binding)
    except UnusableError as problem:
        if binding.optional and problem.reason == MISSING:
            return problem
        raise
    absent: UnusableError | None = None
    told = False
    for time, status, value in points:
        try:
            _put(binding, rows, time, status, value)
        except UnusableError as problem:
            if binding.optional and problem.reason == MISSING:
                absent = absent or problem
                continue
            rows.refuse(binding.address, problem, body.payload)
        told = True
    return None if told else absent


def _put(binding: Binding, rows: Rows, time: int, status: int, value: object) -> None:
    if isinstance(value, UnusableError):
        raise value
    if binding.convert is not None and value is not None:
        value = binding.convert(value)
    number, other = value_of(value, binding.datatype, bad=is_bad(status))
    if other is not None:
        rows.others[len(rows.tags)] = other
    rows.tags.append(binding.tag)
    rows.times.append(time)
    rows.values.append(number)
    rows.status.append(status)


def columns(rows: Rows) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.uint32]]:
    """Tags, source times, values and status of these rows."""
    return (
        np.array(rows.tags, dtype=np.int64),
        np.array(rows.times, dtype=np.int64),
        np.array(rows.values, dtype=np.float64),
        np.array(rows.status, dtype=np.uint32),
    )
