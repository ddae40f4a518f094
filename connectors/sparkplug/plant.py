"""Every edge node with tags on it: born, dead or unknown; its messages in order, its tags honest about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np

from connectors import NO_TIME, Status, TagBinding
from connectors.mqtt.mapping import Rows
from connectors.mqtt.times import fitting
from connectors.mqtt.values import UnusableError
from connectors.sparkplug.address import BIRTHS, Key, Topic, split, topic_of
from connectors.sparkplug.codec import Message, decode
from connectors.sparkplug.options import Options
from connectors.sparkplug.rebirth import Rebirths
from connectors.sparkplug.scope import MS, Arrival, Context, Scope
from connectors.sparkplug.sequence import MODULO, Sequence

BDSEQ: Final = b"bdSeq"
MOST_ALIASES: Final = 2_000_000
"""Of a connection: some 200 MB."""
NEVER: Final = int(np.iinfo(np.int64).max)
"""ns: of a tag that never had a reading there is nothing to be uncertain of."""
Wanted: TypeAlias = Mapping[Key, Mapping[str, list[tuple[TagBinding, str]]]]
"""Node -> device, the node's own under "" -> tags, each with its metric."""
MOST_HELD_BYTES: Final = 33_554_432
"""Of messages that wait for one before them."""


@dataclass(slots=True)
class Taken:
    """What came of some messages."""

    rows: Rows = field(default_factory=Rows)
    acks: list[tuple[int, int]] = field(default_factory=list)
    """Message id and QoS of those that are in `rows` now."""
    lost: int = 0

    @property
    def tells_something(self) -> bool:
        """Whether there is more than acknowledgements."""
        return bool(self.rows.tags or self.rows.refused or self.lost)


@dataclass(slots=True)
class _Held:
    topic: Topic
    payload: Message
    arrival: Arrival


@dataclass(slots=True)
class _Node:
    key: Key
    scopes: dict[str, Scope]
    """By device; the node's own under ""."""
    sequence: Sequence[_Held] = field(default_factory=Sequence)
    known: bool = False
    """A birth was seen since we connected, and no death after it."""
    dead: bool = False
    """It died after a birth that we know. One that we know nothing of may be alive in a later session."""
    bdseq: int | None = None
    doubt: bool = False
    """A birth may have been missed: aliases may mean something else now."""
    held_until: float | None = None
    waiting_from: float = 0.0
    waiting_until: float | None = None
    waiting_since: int = 0
    """ns: up to here is known what became of its tags."""

    def wait(self, now: float, seconds: float, time_ns: int) -> None:
        """Tags have to be told of. A wait that goes on grows to twice its length at most, however often it begins."""
        if self.waiting_until is None:
            self.waiting_from, self.waiting_since = now, time_ns
        self.waiting_since = min(self.waiting_since, time_ns)
        self.waiting_until = min(now, self.waiting_from + seconds) + seconds

    def waits(self) -> bool:
        """Whether nothing is known of some tag yet."""
        return any(point.waiting for scope in self.scopes.values() for point in scope.all_points())


class Plant:
    """What is known of the nodes with tags; no others are remembered. Monotonic times are in seconds."""

    def __init__(self, tags: Iterable[TagBinding], options: Options) -> None:
        """Raises ValueError for an address that is not valid, or in a group that is not listened to."""
        self._options = options
        self._nodes: dict[Key, _Node] = {}
        self._held_bytes = 0
        self._aliases = 0
        self.rebirths = Rebirths(options.rebirth_pause_s, allowed=options.rebirth)
        self._bind(self.wanted(tags))

    def wanted(self, tags: Iterable[TagBinding]) -> Wanted:
        """These tags by node. Raises ValueError for an address that is not valid, or in a group not listened to."""
        found: dict[Key, dict[str, list[tuple[TagBinding, str]]]] = {}
        for tag in tags:
            address = split(tag.address)
            if self._options.groups and address.node.group not in self._options.groups:
                message = f"{tag.address!r} is in none of the `groups` {', '.join(self._options.groups)}"
                raise ValueError(message)
            found.setdefault(address.node, {"": []}).setdefault(address.device, []).append((tag, address.metric))
        return found

    def rebind(self, wanted: Wanted, now: float, out: Taken) -> None:
        """Hear other tags from now on. A node with new ones is asked for its births: only they explain its aliases."""
        for key in self._nodes.keys() - wanted.keys():
            node = self._nodes[key]
            self._give_up(node, out)
            for scope in node.scopes.values():
                self._forget(scope)
            del self._nodes[key]
            self.rebirths.leave(key)
        for node in self._bind(wanted):
            node.wait(now, self._options.birth_wait_s, NEVER)
            self.rebirths.want_anew(node.key)
        for node in self._nodes.values():
            if not node.waits():
                node.waiting_until = None

    def _bind(self, wanted: Wanted) -> list[_Node]:
        """Returns the nodes with new tags."""
        found: list[_Node] = []
        for key, devices in wanted.items():
            node = self._nodes.setdefault(key, _Node(key, {}))
            for device in node.scopes.keys() - devices.keys():
                self._forget(node.scopes.pop(device))
            new = [node.scopes.setdefault(one, Scope(one)).rebind(tags) for one, tags in devices.items()]
            if any(new):
                found.append(node)
        return found

    def connected(self, now: float, time_ns: int) -> None:
        """A connection has begun: nothing is known until it is told. `time_ns`: until when all was known."""
        self._held_bytes = 0
        self.rebirths.forget()
        for key, node in self._nodes.items():
            fresh = _Node(key, node.scopes)
            for scope in node.scopes.values():
                self._forget(scope)
                scope.dead = False
                for point in scope.all_points():
                    point.waiting = True
            fresh.wait(now, self._options.birth_wait_s, time_ns)
            self._nodes[key] = fresh
            self.rebirths.want(key)

    def take(self, arrival: Arrival, now: float, out: Taken) -> None:
        """One message: its readings, and those of messages that waited for it; or it waits itself."""
        topic = topic_of(arrival.topic)
        node = None if topic is None else self._nodes.get(topic.node)
        if topic is None or node is None or (topic.kind in BIRTHS and not arrival.payload):
            # An empty birth only tells the broker to retain none.
            out.acks.append((arrival.mid, arrival.qos))
            return
        try:
            payload = decode(arrival.payload, self._options.max_metrics)
        except UnusableError as problem:
            out.rows.refuse(arrival.topic, problem, arrival.payload)
            out.acks.append((arrival.mid, arrival.qos))
            return
        held = _Held(topic, payload, arrival)
        if topic.kind == "NDEATH":
            self._death(node, held, out)
        elif topic.kind == "NBIRTH":
            self._birth(node, held, now, out)
        else:
            self._in_order(node, held, now, out)

    def _death(self, node: _Node, held: _Held, out: Taken) -> None:
        """Only that of the session whose birth we know: an old session's will may come after a new birth."""
        out.acks.append((held.arrival.mid, held.arrival.qos))
        number = _bdseq(held.payload)
        if held.arrival.retained or (None not in (number, node.bdseq) and number != node.bdseq):
            return
        self._give_up(node, out)
        node.known, node.dead, node.bdseq = False, node.known, None
        node.sequence.begin(None)
        for scope in node.scopes.values():
            self._scope_dies(scope, held.arrival.received, out)
        node.waiting_until = None

    def _forget(self, scope: Scope) -> None:
        self._aliases -= len(scope.aliases)
        scope.forget()

    def _scope_dies(self, scope: Scope, time: int, out: Taken) -> None:
        scope.dead = scope.dead or scope.born
        self._forget(scope)
        for point in scope.all_points():
            if not point.dead or point.waiting:
                scope.mark(point, Status.BAD_NO_COMMUNICATION, time, out.rows)

    def _birth(self, node: _Node, held: _Held, now: float, out: Taken) -> None:
        """Everything begins anew; what waited in line belongs to before, unless it was sent later."""
        if held.arrival.retained:
            self._apply(node, held, out)
            return
        later = [one for one in node.sequence.held.values() if _sent_after(one, held)]
        for one in later:
            del node.sequence.held[one.payload.seq % MODULO]
            self._held_bytes -= len(one.arrival.payload)
        self._give_up(node, out)
        node.known, node.dead, node.doubt, node.bdseq = True, False, False, _bdseq(held.payload)
        node.sequence.begin(_number(held))
        self.rebirths.born(node.key)
        for scope in node.scopes.values():
            self._forget(scope)
            for point in scope.all_points():
                point.waiting = not point.dead
        node.wait(now, self._options.birth_wait_s, held.arrival.received)
        self._apply(node, held, out)
        for one in later:
            self._in_order(node, one, now, out)

    def _in_order(self, node: _Node, held: _Held, now: float, out: Taken) -> None:
        offered = node.sequence.offer(_number(held), held)
        if offered.astray:
            node.doubt = True
            self.rebirths.want(node.key)
        if not offered.ready:
            self._held_bytes += len(held.arrival.payload)
            if node.held_until is None:
                node.held_until = now + self._options.reorder_timeout_s
            if self._held_bytes > MOST_HELD_BYTES:
                self._missed(node, out)
            return
        for one in offered.ready:
            if one is not held:
                self._held_bytes -= len(one.arrival.payload)
            self._apply(node, one, out)
        if not node.sequence.held:
            node.held_until = None

    def _missed(self, node: _Node, out: Taken) -> None:
        """What was missing did not come."""
        self._give_up(node, out)
        self.rebirths.want(node.key)

    def _give_up(self, node: _Node, out: Taken) -> None:
        given_up = node.sequence.give_up()
        node.held_until = None
        node.doubt = node.doubt or given_up.birth
        out.lost += given_up.missing
        for one in given_up.ready:
            self._held_bytes -= len(one.arrival.payload)
            self._apply(node, one, out)

    def _apply(self, node: _Node, held: _Held, out: Taken) -> None:
        """A message in its turn."""
        out.acks.append((held.arrival.mid, held.arrival.qos))
        scope = node.scopes.get(held.topic.device)
        if scope is None:
            return
        time = fitting(held.payload.timestamp * MS) if held.payload.HasField("timestamp") else NO_TIME
        context = Context(held.arrival, time, self._options.use_received_time, out.rows)
        kind = held.topic.kind
        if kind in BIRTHS:
            self._birth_of(node, scope, held, context)
        elif kind == "DDEATH":
            self._death_of(scope, held, time, out)
        else:
            self._data(node, scope, held, context)
        if node.waiting_until is not None and not node.waits():
            node.waiting_until = None

    def _death_of(self, scope: Scope, held: _Held, time: int, out: Taken) -> None:
        """At the time the node says, unless that has not come yet."""
        received = held.arrival.received
        if not held.arrival.retained:
            late = time == NO_TIME or time > received or self._options.use_received_time
            self._scope_dies(scope, received if late else time, out)

    def _birth_of(self, node: _Node, scope: Scope, held: _Held, context: Context) -> None:
        """A retained one may be old: it explains aliases until a live one comes."""
        if held.arrival.retained and scope.born:
            return
        self._forget(scope)
        if self._aliases + len(held.payload.metrics) > MOST_ALIASES:
            problem = UnusableError("too_large", f"more than {MOST_ALIASES} metrics: make several connections of it")
            context.rows.refuse(held.arrival.topic, problem, held.arrival.payload)
            return
        scope.birth(held.payload.metrics, context)
        self._aliases += len(scope.aliases)
        if not node.known:
            self.rebirths.want(node.key)

    def _data(self, node: _Node, scope: Scope, held: _Held, context: Context) -> None:
        """Data of something dead is refused: what it means is only known from the birth that has to come first."""
        if node.dead or scope.dead:
            problem = UnusableError("not_born", "data after a death and before a birth: correct the node")
            context.rows.refuse(held.arrival.topic, problem, held.arrival.payload, max(1, len(held.payload.metrics)))
            self.rebirths.want(node.key)
            return
        understood = scope.data(held.payload.metrics, context, by_alias=not node.doubt)
        if not (understood and node.known and scope.born):
            self.rebirths.want(node.key)

    def expire(self, now: float, time_ns: int, out: Taken) -> None:
        """Give up what was waited for long enough."""
        for node in self._nodes.values():
            if node.held_until is not None and node.held_until <= now:
                self._missed(node, out)
            if node.waiting_until is not None and node.waiting_until <= now:
                self._never_came(node, time_ns, out)

    @staticmethod
    def _never_came(node: _Node, time_ns: int, out: Taken) -> None:
        node.waiting_until = None
        for scope in node.scopes.values():
            for point in scope.all_points():
                if point.waiting:
                    scope.mark(point, Status.BAD_NO_COMMUNICATION, time_ns, out.rows)

    def next_time(self) -> float | None:
        """When `expire` has something to do, or None."""
        times = (t for node in self._nodes.values() for t in (node.held_until, node.waiting_until) if t is not None)
        return min(times, default=None)

    def waits(self) -> bool:
        """Whether a node that is to tell what its tags are has not done so, and still may."""
        return any(node.waiting_until is not None for node in self._nodes.values())

    def certain_until(self) -> int | None:
        """ns: what became of every tag is known up to here only; None where nothing is waited for."""
        since = [node.waiting_since for node in self._nodes.values() if node.waiting_until is not None]
        since += [one.arrival.received for node in self._nodes.values() for one in node.sequence.held.values()]
        return min(since, default=None)


def _bdseq(payload: Message) -> int | None:
    """The number of the session that a birth or a death belongs to, if it says one."""
    for metric in payload.metrics:
        if metric.name == BDSEQ:
            field_of_value = metric.WhichOneof("value")
            value = getattr(metric, field_of_value) if field_of_value in ("int_value", "long_value") else None
            return value if isinstance(value, int) else None
    return None


def _number(held: _Held) -> int | None:
    """The sequence number; a retained message has none that counts."""
    return held.payload.seq if held.payload.HasField("seq") and not held.arrival.retained else None


def _sent_after(one: _Held, birth: _Held) -> bool:
    return bool(one.payload.timestamp >= birth.payload.timestamp)
