"""The models that callers may ask: which versions there are, which are loaded, and on which device each runs."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Final

from app.admission import Admission
from app.db import UnreachableError
from app.errors import Problem
from app.log import DEVICE_REFUSED, SERVING_FAILED, SERVING_LOADED, SERVING_UNLOADED, get_logger
from app.models import queries
from app.serving.schemas import Version, head
from inference import DeviceLostError, InferenceError, Options, UnsupportedModelError, engines
from inference.certify import examine
from inference.limits import MIB
from inference.microbatch import BusyError, Microbatcher, Pace
from inference.model import load_model

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence
    from pathlib import Path

    from sqlalchemy import Engine

    from app.admission import Order
    from app.certificates.schemas import Subject
    from app.models.tables import ModelRow
    from inference import Model, Session, Tensor
    from inference.certify import Examined, Request
    from inference.devices import Choice
    from inference.joining import Outcome

_log = get_logger(__name__)

FRESH_S: Final = 5.0
"""How long what the registry said is believed: a version that was just imported is offered by then."""
FAILED_S: Final = 30.0
"""A model that no device takes is tried again after this long."""
CHECKING_S: Final = 2.0
"""Whoever asks for a model that is being checked may come again after this long."""
JOIN_S: Final = 30.0
ASIDE_S: Final = 0.0005
"""A run on the event loop holds up every other request of this process for as long."""
NEWEST: Final = ""
"""The version of a request that names none."""


@dataclass(slots=True)
class Loaded:
    """A version that is ready to answer."""

    version: Version
    batcher: Microbatcher
    choice: Choice
    size: int
    """Of the model's files, bytes."""
    wanted: Mapping[str, str]
    head: bytes
    """The beginning of each of its answers."""
    subject: Subject
    """What its certificate is for."""
    override: str = ""
    """Why it runs without one, where somebody said so."""
    used: int = 0
    """Greater where it was used later."""
    pending: int = 0
    """Requests under way; it is not unloaded while there are any."""
    here: bool = False
    """Whether short runs may be done on the event loop: only where no device can hang."""
    _waking: bool = False

    async def infer(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Raises InputError, BusyError, DeviceLostError."""
        loop = asyncio.get_running_loop()
        told: asyncio.Future[Outcome] = loop.create_future()
        self.pending += 1
        try:
            self.batcher.submit(feeds, partial(_tell, told), wake=False)
            if not self._waking:
                # Requests that the loop reads in one round are one run: waking a thread costs more than small runs.
                self._waking = True
                loop.call_soon(self._wake)
            outcome = await told
        finally:
            self.pending -= 1
        if isinstance(outcome, InferenceError):
            raise outcome
        return outcome

    def _wake(self) -> None:
        self._waking = False
        if self.here:
            self.batcher.turn()
        else:
            self.batcher.wake_up()


def _tell(told: asyncio.Future[Outcome], outcome: Outcome) -> None:
    if not told.done():
        told.set_result(outcome)


@dataclass(slots=True)
class Serving:
    """What `/v2` offers. Used on one event loop; what takes long is done on threads."""

    engine: Engine
    store: Path
    devices: Mapping[str, tuple[str, ...]]
    """Model name to the order of devices."""
    pace: Pace = field(default_factory=lambda: Pace(aside_s=ASIDE_S))
    memory_bytes: int = 1024 * MIB
    overrides: Mapping[str, str] = field(default_factory=dict)
    """Model name to why it needs no certificate."""
    examined: Callable[[Request], Examined] = examine
    _versions: dict[tuple[str, str], Version] = field(default_factory=dict)
    _until: float = 0.0
    _loaded: dict[str, Loaded] = field(default_factory=dict)
    _failed: dict[str, tuple[str, float]] = field(default_factory=dict)
    _away: str = ""
    """Why the registry cannot be asked."""
    _checking: dict[str, str] = field(default_factory=dict)
    """Model digest to what is being checked, for people."""
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)
    _loading: asyncio.Lock = field(default_factory=asyncio.Lock)
    _clock: count[int] = field(default_factory=count)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _started: bool = False

    def start(self) -> None:
        """Load the newest version of each model, so that the first request finds it warm."""
        self._later(self._load_all())

    async def close(self) -> None:
        """Unload everything."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for one in [*self._loaded.values()]:
            await self.unload(one)

    def _later(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _load_all(self) -> None:
        while not self._until and self.devices:
            await self._refresh()
            if not self._until:
                await asyncio.sleep(FRESH_S)
        for name in self.devices:
            version = self._versions.get((name, NEWEST))
            if version is not None:
                await self._checked(version)
        self._started = True

    @property
    def admission(self) -> Admission:
        """Who may be run where."""
        return Admission(self.engine, self.store, self.overrides, self.examined)

    async def _checked(self, version: Version) -> None:
        """Have the devices checked, in their order, until one may be taken; load the model; then check the others."""
        name, digest, gate = version.name, version.digest, self.admission
        if digest in self._checking:
            return
        self._checking[digest] = ""
        try:
            order = await gate.checked(name, digest, version.devices, partial(self._check_begins, version))
        except UnreachableError as error:
            _log.warning(SERVING_FAILED, model=name, reason=f"the database does not answer: {type(error).__name__}")
            return
        finally:
            self._checking.pop(digest, None)
        if order.pending:
            reason = f"{name} could not be checked on {', '.join(order.pending)}"
            self._failed[digest] = (reason, time.monotonic() + FAILED_S)
            return
        with suppress(Problem, *UnreachableError):  # It was logged, and is told to whoever asks.
            await self.load(version)
        self._later(gate.rest(digest, order))

    def _check_begins(self, version: Version, device: str) -> None:
        self._checking[version.digest] = _being_checked(version, device)

    def state(self) -> str:
        """Why not every model can be asked; empty when all can."""
        if not self._started:
            return self._away or "models are being loaded"
        missing = [name for name in self.devices if (name, NEWEST) not in self._versions]
        if missing:
            return f"not imported yet: {', '.join(missing)}"
        newest = (self._versions[name, NEWEST] for name in self.devices)
        told = {one.name: self._checking.get(one.digest) or self._failed.get(one.digest, ("",))[0] for one in newest}
        return "; ".join(f"{name}: {reason}" for name, reason in told.items() if reason)

    async def versions(self, name: str) -> list[Version]:
        """Newest first. Problem 404 when none may be asked."""
        await self._refresh()
        found = [one for (each, version), one in self._versions.items() if each == name and version != NEWEST]
        if not found:
            raise self._unknown(name, NEWEST)
        return found

    async def version(self, name: str, version: str) -> Version:
        """One version, the newest for an empty one. Problem 404."""
        if (name, version) not in self._versions:
            self._until = 0.0
        await self._refresh()
        found = self._versions.get((name, version))
        if found is None:
            raise self._unknown(name, version)
        return found

    def _unknown(self, name: str, version: str) -> Problem:
        if self._away:
            return _busy(self._away)
        if name not in self.devices:
            offered = ", ".join(self.devices) or "none; HEADRACE_SERVE names them"
            return Problem(404, "not_found", f"no model {name[:100]!r} is offered here; there are: {offered}")
        if version:
            return Problem(404, "not_found", f"model {name!r} has no version {version[:100]!r}")
        return Problem(404, "not_found", f"model {name!r} was not imported yet: name it under models in plant.yaml")

    def ready(self, name: str, version: str) -> Loaded | None:
        """The loaded version where nothing has to be waited for: the way of nearly every request."""
        if time.monotonic() > self._until and not self._asking.locked():
            self._later(self._refresh())
        found = self._versions.get((name, version))
        loaded = None if found is None else self._loaded.get(found.digest)
        if loaded is not None:
            loaded.used = next(self._clock)
        return loaded

    async def _refresh(self) -> None:
        """Ask the registry, at most once in a while; where it does not answer, what it said last stays true."""
        async with self._asking:
            if not self.devices or time.monotonic() <= self._until:
                return
            try:
                rows = await asyncio.to_thread(queries.named, self.engine, self.devices)
            except UnreachableError as error:
                self._away = f"the database does not answer: {type(error).__name__}"
                _log.warning(SERVING_FAILED, reason=self._away)
                if self._versions:
                    self._until = time.monotonic() + FRESH_S
                return
            self._versions, self._until, self._away = self._found(rows), time.monotonic() + FRESH_S, ""

    def _found(self, rows: Sequence[ModelRow]) -> dict[tuple[str, str], Version]:
        found: dict[tuple[str, str], Version] = {}
        for row in rows:
            made = Version(row.name, row.version, row.digest, self.devices[row.name], row.contract)
            found.setdefault((row.name, NEWEST), made)
            # Of two packages that state the same version, the one imported last.
            found.setdefault((row.name, row.version), made)
        return found

    async def load(self, version: Version) -> Loaded:
        """Make it ready, one at a time. Problem 503 when no device takes it, or there is no memory for it now."""
        loaded = self._loaded.get(version.digest)
        if loaded is None:
            loaded = await self._made(version)
        loaded.used = next(self._clock)
        return loaded

    async def _made(self, version: Version) -> Loaded:
        if doing := self._checking.get(version.digest):
            raise _busy(doing, CHECKING_S)
        async with self._loading:
            loaded = self._loaded.get(version.digest)
            if loaded is None:
                reason, until = self._failed.get(version.digest, ("", 0.0))
                if until > time.monotonic():
                    raise _busy(reason)
                loaded = await self._load(version)
            return loaded

    async def _load(self, version: Version) -> Loaded:
        order = await asyncio.to_thread(self.admission.order, version.name, version.digest, version.devices)
        if order.pending:
            self._later(self._checked(version))
            raise _busy(_being_checked(version, order.pending[0]), CHECKING_S)
        try:
            model = await asyncio.to_thread(load_model, self.store, version.digest)
            size = await asyncio.to_thread(_bytes, model)
            await self._room(version, size)
            made = await self._prepared(version, model, size, order)
        except (InferenceError, OSError, ValueError) as error:
            _log.error(SERVING_FAILED, model=version.name, version=version.version, reason=str(error))
            self._failed[version.digest] = (str(error), time.monotonic() + FAILED_S)
            raise _busy(str(error)) from error
        self._failed.pop(version.digest, None)
        self._loaded[version.digest] = made
        for one in made.choice.refusals:
            _log.warning(DEVICE_REFUSED, model=version.name, device=one.device, reason=one.reason)
        joined = made.batcher.ready.result()
        _log.info(
            SERVING_LOADED, model=version.name, version=version.version, device=made.choice.device.id, joined=joined
        )
        return made

    async def _prepared(self, version: Version, model: Model, size: int, order: Order) -> Loaded:
        chosen: list[Choice] = []

        def prepare() -> Session:
            chosen.append(order.chosen(model, Options(threads=1)))
            return chosen[0].session

        loop = asyncio.get_running_loop()
        batcher = Microbatcher(model, prepare, self.pace, loop.call_soon_threadsafe)
        await asyncio.wrap_future(batcher.ready)
        choice = chosen[0]
        told = {
            "device": choice.device.id,
            "device_wanted": choice.requested,
            "backend": choice.device.backend,
            "nodes": choice.session.placement.nodes,
            "nodes_on_device": choice.session.placement.on_device,
            "model_digest": version.digest,
        }
        begin = head(version.name, version.version, told)
        here = choice.device.vendor == "cpu" and engines.engine("cpu") is None
        try:
            subject = await asyncio.to_thread(
                self.admission.taken, version.name, version.digest, version.devices, choice
            )
        except UnreachableError:
            batcher.close()
            raise
        why = self.overrides.get(version.name, "")
        return Loaded(version, batcher, choice, size, version.wanted, begin, subject, why, here=here)

    async def _room(self, version: Version, size: int) -> None:
        """Unload the least recently used until it fits. Problem 503 when it cannot."""
        if size > self.memory_bytes:
            message = f"the model's files take {size / MIB:.0f} MB: set HEADRACE_SERVE_MEMORY_MB higher"
            raise UnsupportedModelError(message)
        while sum(one.size for one in self._loaded.values()) + size > self.memory_bytes:
            idle = [one for one in self._loaded.values() if not one.pending]
            if not idle:
                reason = f"there is no memory for {version.name}: every model loaded has requests under way"
                raise _busy(reason)
            await self.unload(min(idle, key=lambda one: one.used))

    async def unload(self, loaded: Loaded) -> None:
        """Free its memory; who still waits for it is told that it is gone."""
        # It may have been made ready anew by another request that met the loss.
        if self._loaded.get(loaded.version.digest) is loaded:
            del self._loaded[loaded.version.digest]
        loaded.batcher.close()
        await asyncio.to_thread(loaded.batcher.join, JOIN_S)
        _log.info(SERVING_UNLOADED, model=loaded.version.name, version=loaded.version.version)

    async def infer(self, loaded: Loaded, feeds: Mapping[str, Tensor]) -> tuple[Loaded, dict[str, Tensor]]:
        """The outputs, and what gave them: a device that is lost, or a version just unloaded, is made ready anew once.

        Problem 503 when too much waits or no device is left, 400 for feeds that do not fit the model.
        """
        try:
            try:
                return loaded, await loaded.infer(feeds)
            except DeviceLostError:
                await self.unload(loaded)
                again = await self.load(loaded.version)
                return again, await again.infer(feeds)
        except BusyError as error:
            raise _busy(str(error), error.retry_after_s) from error
        except DeviceLostError as error:
            raise _busy(str(error)) from error
        except InferenceError as error:
            raise Problem(400, "bad_request", str(error)) from error

    def loaded(self) -> list[Loaded]:
        """What is in memory, the most recently used first."""
        return sorted(self._loaded.values(), key=lambda one: -one.used)


def _busy(reason: str, retry_after_s: float = 1.0) -> Problem:
    """Nothing was computed; the same request may be answered later."""
    return Problem(503, "busy", reason, headers={"Retry-After": str(max(1, round(retry_after_s)))})


def _being_checked(version: Version, device: str) -> str:
    return f"{version.name} is being checked on {device}: come again"


def _bytes(model: Model) -> int:
    """The model's files, external weights included."""
    return sum(one.stat().st_size for one in model.path.parent.rglob("*") if one.is_file())
