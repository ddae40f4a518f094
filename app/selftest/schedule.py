"""Which faults come when: a pure function of the seed, so that a run that found something can be run again."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

GATEWAY, WORKER, BEAT, API = "gateway", "worker", "beat", "api"
REDIS, DATABASE, BROKER, SERVER, DEVICE = "redis", "database", "broker", "server", "device"
SQLITE, POSTGRESQL = "sqlite", "postgresql"
EVERYTHING: Final = (GATEWAY, WORKER, BEAT, API, REDIS, DATABASE, BROKER, SERVER, DEVICE)
PRELOAD: Final = "preload"
"""Needs a library that is put before the system's own: a C compiler, and Linux."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fault."""

    name: str
    holds: frozenset[str]
    """What it takes hold of: two faults that share one of them never meet, or neither would mean what its name says."""
    lasts_s: tuple[float, float] = (0.0, 0.0)
    """From, to; 0: over at once, as a kill is."""
    settles_s: float = 4.0
    """How long after its end it still holds what it took."""
    needs: str = ""
    """`sqlite`, `postgresql`, `preload`: only where that is there."""
    forgets: bool = False
    """It takes what a peer had already confirmed, and no acknowledgement of ours covers that."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a schedule."""

    kind: str
    begins_s: float
    """From the start of the schedule."""
    ends_s: float


def _kind(name: str, *holds: str, lasts_s: tuple[float, float] = (0.0, 0.0), **more: object) -> Kind:
    return Kind(name, frozenset(holds), lasts_s, **more)  # type: ignore[arg-type]


SHORT: Final = (1.0, 4.0)
LONG: Final = (2.0, 8.0)
KINDS: Final = (
    _kind("gateway_killed", GATEWAY, settles_s=6.0),
    _kind("gateway_stopped", GATEWAY, lasts_s=LONG),
    _kind("gateway_disk_full", GATEWAY, lasts_s=SHORT),
    _kind("gateway_killed_when_full", GATEWAY, lasts_s=SHORT, settles_s=6.0),
    _kind("gateway_fsync_fails", GATEWAY, lasts_s=SHORT, needs=PRELOAD),
    _kind("gateway_clock_ahead", GATEWAY, SERVER, DEVICE, BROKER, lasts_s=SHORT, needs=PRELOAD),
    _kind("gateway_clock_behind", GATEWAY, SERVER, DEVICE, BROKER, lasts_s=SHORT, needs=PRELOAD),
    _kind("worker_killed", WORKER, settles_s=6.0),
    _kind("worker_stopped", WORKER, lasts_s=LONG),
    _kind("worker_disk_full", WORKER, lasts_s=SHORT),
    _kind("beat_killed", BEAT),
    _kind("beat_stopped", BEAT, lasts_s=LONG),
    _kind("api_killed", API),
    _kind("api_stopped", API, lasts_s=LONG),
    _kind("redis_killed", REDIS),
    _kind("redis_flushed", REDIS, settles_s=1.0),
    _kind("redis_stopped", REDIS, lasts_s=LONG),
    _kind("database_locked", DATABASE, lasts_s=LONG, needs=SQLITE),
    _kind("database_killed", DATABASE, settles_s=8.0, needs=POSTGRESQL),
    _kind("database_stopped", DATABASE, lasts_s=LONG, needs=POSTGRESQL),
    _kind("database_disk_full", DATABASE, lasts_s=SHORT, settles_s=8.0, needs=POSTGRESQL),
    _kind("database_refuses", DATABASE, lasts_s=LONG, needs=POSTGRESQL),
    _kind("database_silent", DATABASE, lasts_s=LONG, needs=POSTGRESQL),
    _kind("database_slow", DATABASE, lasts_s=LONG, needs=POSTGRESQL),
    _kind("broker_killed", BROKER, GATEWAY, DEVICE, settles_s=6.0, forgets=True),
    _kind("broker_stopped", BROKER, lasts_s=LONG),
    _kind("broker_line_cut", BROKER, lasts_s=LONG),
    _kind("broker_line_silent", BROKER, lasts_s=LONG),
    _kind("broker_line_slow", BROKER, lasts_s=LONG),
    _kind("device_line_cut", DEVICE, lasts_s=LONG),
    _kind("device_killed", DEVICE),
    _kind("server_killed", SERVER, settles_s=6.0),
    _kind("server_stopped", SERVER, lasts_s=SHORT),
    _kind("server_line_cut", SERVER, lasts_s=SHORT),
    _kind("server_line_silent", SERVER, lasts_s=LONG),
    _kind("power_cut", *EVERYTHING, settles_s=6.0, needs=PRELOAD),
    _kind("power_cut_with_broker", *EVERYTHING, settles_s=6.0, needs=PRELOAD, forgets=True),
)
"""Every kind of fault. `server` is the plant's OPC UA server, `device` the one that publishes over MQTT."""
POWER: Final = frozenset(one.name for one in KINDS if one.name.startswith("power_cut"))
"""Those for which all that is written has to be noted."""
BY_NAME: Final = {one.name: one for one in KINDS}

REST_S: Final = (1.0, 3.0)
"""Between the end of a fault and the beginning of the next, where they do not meet."""
LONG_S: Final = 1800.0
LONG_REST_S: Final = (3.0, 7.0)
"""The same in runs that last so long: a box that is killed every four seconds has its processors start programs, and
what it is asked for an hour is whether it keeps up."""
MEET: Final = 0.3
"""How often a fault begins while the one before lasts."""
FIRST_S: Final = 1.0
LAST_S: Final = 2.0
"""Before the end of the schedule the last fault is over."""


def available(there: Collection[str], only: Collection[str] = ()) -> tuple[Kind, ...]:
    """The kinds that can be done with what is there; `only`: of these. ValueError for a name that is none."""
    if unknown := sorted(set(only) - BY_NAME.keys()):
        message = f"there is no fault {', '.join(unknown)}"
        raise ValueError(message)
    return tuple(one for one in KINDS if (not one.needs or one.needs in there) and (not only or one.name in only))


def schedule(seed: int, seconds: float, kinds: Sequence[Kind], hold_s: float | None = None) -> tuple[Fault, ...]:
    """The faults of a run of so many seconds, in the order of their beginning; the same for the same arguments.

    Every kind comes once before any comes twice. `hold_s`: so long each lasts that is not over at once. ValueError when
    the run is too short for that.
    """
    if hold_s is not None and FIRST_S + hold_s + LAST_S > seconds:
        message = f"a fault that lasts {hold_s:g} s needs a run of {FIRST_S + hold_s + LAST_S:g} s at least: see --for"
        raise ValueError(message)
    chance = random.Random(seed)  # noqa: S311 - repeatable is what is wanted
    made: list[Fault] = []
    at, rests_s = FIRST_S, LONG_REST_S if seconds >= LONG_S else REST_S
    for kind in _turns(chance, kinds):
        lasts = chance.uniform(*kind.lasts_s)
        lasts = hold_s if hold_s is not None and lasts else lasts
        meets, rest = chance.random() < MEET, chance.uniform(*rests_s)
        begins = _begin(made, kind, at, meets=meets)
        if begins + lasts > seconds - LAST_S:
            break
        made.append(Fault(kind.name, round(begins, 3), round(begins + lasts, 3)))
        at = max(one.ends_s for one in made) + rest
    return tuple(sorted(made, key=lambda one: (one.begins_s, one.kind)))


def _turns(chance: random.Random, kinds: Sequence[Kind]) -> Iterator[Kind]:
    while kinds:
        yield from chance.sample(kinds, len(kinds))


def _begin(made: Sequence[Fault], kind: Kind, at: float, *, meets: bool) -> float:
    """Its earliest beginning after what shares something with it has settled, with others or after them."""
    free = max((settled(one) for one in made if not BY_NAME[one.kind].holds.isdisjoint(kind.holds)), default=FIRST_S)
    if meets and made:
        last = made[-1]
        at = last.begins_s + (last.ends_s - last.begins_s) / 2
    return max(at, free)


def settled(fault: Fault) -> float:
    """Seconds from the start of the schedule: when it has let go of all that it took."""
    return fault.ends_s + BY_NAME[fault.kind].settles_s
