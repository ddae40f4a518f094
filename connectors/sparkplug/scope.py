"""What a node or a device told in its birth, and what its messages mean for the tags on it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from connectors import NO_TIME, Status, TagBinding
from connectors.mqtt.mapping import Rows
from connectors.mqtt.times import fitting
from connectors.mqtt.values import UnusableError, is_bad, value_of
from connectors.sparkplug.codec import Message, text
from connectors.sparkplug.values import TEMPLATE, plain, quality_of, status_of_number

MS: Final = 1_000_000
SEPARATOR: Final = "/"


class Arrival(NamedTuple):
    """One message as it came from the broker."""

    topic: str
    payload: bytes
    mid: int
    qos: int
    retained: bool
    received: int
    """ns since 1970 UTC."""


@dataclass(slots=True)
class Point:
    """One tag and how it stands."""

    tag: int
    address: str
    datatype: str
    waiting: bool = True
    """Nothing is known of it yet since we connected, or since its node began anew."""
    dead: bool = False
    """Its last reading says that its node or device is gone."""
    last_time: int = NO_TIME
    """ns: the newest source time it was given."""


class Given(NamedTuple):
    """One reading before it has a tag."""

    time: int
    status: int
    value: object


class Context(NamedTuple):
    """What all metrics of one message share."""

    arrival: Arrival
    time: int
    """ns: the payload's own time, for metrics without one; NO_TIME if there is none."""
    use_received_time: bool
    rows: Rows

    def time_of(self, metric: Message) -> int:
        """A metric's source time."""
        if self.use_received_time:
            return self.arrival.received
        return fitting(metric.timestamp * MS) if metric.HasField("timestamp") else self.time


@dataclass(slots=True)
class Scope:
    """A node itself, or one of its devices: its tags by metric, and the names behind its aliases."""

    device: str = ""
    points: dict[str, list[Point]] = field(default_factory=dict)
    wanted: set[str] = field(default_factory=set)
    """The metrics of the tags, and the templates that a tag may be a member of."""
    aliases: dict[int, str | None] = field(default_factory=dict)
    """Of the birth; None for a metric nobody wants."""
    types: dict[str, int] = field(default_factory=dict)
    born: bool = False
    dead: bool = False

    def add(self, tag: TagBinding, metric: str) -> None:
        """A tag on this metric."""
        self.points.setdefault(metric, []).append(Point(tag.id, tag.address, tag.datatype))
        parts = metric.split(SEPARATOR)
        self.wanted.update(SEPARATOR.join(parts[:n]) for n in range(1, len(parts) + 1))

    def rebind(self, tags: Sequence[tuple[TagBinding, str]]) -> bool:
        """Other (tag, metric), those that stay as they stand; whether there are new ones. What the birth said holds."""
        known = {point.tag: point for point in self.all_points()}
        self.points, self.wanted = {}, set()
        new = False
        for tag, metric in tags:
            self.add(tag, metric)
            point = known.get(tag.id)
            if point is not None and (point.address, point.datatype) == (tag.address, tag.datatype):
                self.points[metric][-1] = point
            else:
                new = True
        return new

    def all_points(self) -> Iterator[Point]:
        """Every tag."""
        for points in self.points.values():
            yield from points

    def forget(self) -> None:
        """What its birth said no longer holds."""
        self.born = False
        self.aliases.clear()
        self.types.clear()

    def birth(self, metrics: Message, context: Context) -> None:
        """Learn names, aliases and types; take the values. A tag that is not in it gets a Bad reading."""
        self.forget()
        self.born, self.dead = True, False
        missed = {id(point): point for point in self.all_points()}
        for metric in metrics:
            try:
                name = text(metric.name, "a metric's name")
            except UnusableError as problem:
                context.rows.refuse(context.arrival.topic, problem, context.arrival.payload)
                continue
            wanted = name in self.wanted
            if metric.HasField("alias"):
                self.aliases[metric.alias] = name if wanted else None
            if wanted:
                self.types[name] = metric.datatype
                for point in self._take(name, metric, context):
                    missed.pop(id(point), None)
        if not context.arrival.retained:
            for point in missed.values():
                self.mark(point, Status.BAD_NODE_ID_UNKNOWN, context.arrival.received, context.rows)

    def data(self, metrics: Message, context: Context, *, by_alias: bool) -> bool:
        """Take values; False when something in it needs a birth to be understood. `by_alias`: aliases are certain."""
        understood = True
        for metric in metrics:
            try:
                name = self._name_of(metric, by_alias=by_alias)
                if name is not None and name in self.wanted:
                    self._take(name, metric, context)
            except UnusableError as problem:
                understood = understood and problem.reason != "unknown_alias"
                context.rows.refuse(context.arrival.topic, problem, context.arrival.payload)
        return understood

    def _name_of(self, metric: Message, *, by_alias: bool) -> str | None:
        if metric.name:
            return text(metric.name, "a metric's name")
        if by_alias and metric.HasField("alias") and metric.alias in self.aliases:
            return self.aliases[metric.alias]
        reason = "unknown_alias"
        what = f"the alias {metric.alias}, which no birth explains" if metric.HasField("alias") else "a nameless metric"
        raise UnusableError(reason, f"{what}: the node has to send its births again")

    def _take(self, name: str, metric: Message, context: Context) -> Iterator[Point]:
        """Readings for the tags on this metric, and for those on members of it when it is a template."""
        touched = list(self._take_one(name, metric, metric.datatype or self.types.get(name, 0), context))
        if metric.WhichOneof("value") == "template_value":
            for member in metric.template_value.metrics:
                try:
                    below = f"{name}{SEPARATOR}{text(member.name, 'the name of a member')}"
                except UnusableError as problem:
                    context.rows.refuse(context.arrival.topic, problem, context.arrival.payload)
                    continue
                if below in self.wanted:
                    if member.datatype:
                        self.types[below] = member.datatype
                    touched += self._take(below, member, context)
        elif metric.is_null and metric.datatype == TEMPLATE:
            touched += self._null_template(f"{name}{SEPARATOR}", metric, context)
        return iter(touched)

    def _null_template(self, prefix: str, metric: Message, context: Context) -> Iterator[Point]:
        for name in [one for one in self.points if one.startswith(prefix)]:
            yield from self._take_one(name, metric, TEMPLATE, context)

    def _take_one(self, name: str, metric: Message, code: int, context: Context) -> Iterator[Point]:
        points = self.points.get(name)
        if points is None:
            return
        try:
            given = _given(metric, code, context)
        except UnusableError as problem:
            for point in points:
                context.rows.refuse(point.address, problem, context.arrival.payload)
                point.waiting = False
                yield point
            return
        for point in points:
            try:
                put(point, given, context)
            except UnusableError as problem:
                context.rows.refuse(point.address, problem, context.arrival.payload)
            point.waiting = point.waiting and context.arrival.retained
            yield point

    def mark(self, point: Point, status: int, time: int, rows: Rows) -> None:
        """A Bad reading without a value, no earlier than the tag's newest: it is the last word."""
        point.waiting, point.dead = False, True
        point.last_time = max(point.last_time, time)
        _append(point, Given(point.last_time, status, None), math.nan, None, rows)


def _given(metric: Message, code: int, context: Context) -> Given:
    """A metric's time, status and value. UnusableError."""
    time, status = context.time_of(metric), quality_of(metric)
    value: object = None
    if not metric.is_null:
        value = plain(metric, code)
    if isinstance(value, float) and not math.isfinite(value):
        status, value = status if is_bad(status) else status_of_number(value), None
    elif value is None and not is_bad(status):
        status = Status.BAD_DATA_UNAVAILABLE
    if context.arrival.retained and status == Status.GOOD:
        status = Status.UNCERTAIN_LAST_USABLE
    return Given(time, status, value)


def put(point: Point, given: Given, context: Context) -> None:
    """A row for a tag. UnusableError when the value is not what the tag is configured to hold."""
    array = isinstance(given.value, np.ndarray)
    number, other = value_of([] if array else given.value, point.datatype, bad=is_bad(given.status))
    other = given.value if array else other
    point.dead = False
    point.last_time = max(point.last_time, given.time)
    _append(point, given, number, other, context.rows)


def _append(point: Point, given: Given, number: float, other: object, rows: Rows) -> None:
    if other is not None:
        rows.others[len(rows.tags)] = other
    rows.tags.append(point.tag)
    rows.times.append(given.time)
    rows.values.append(number)
    rows.status.append(given.status)
