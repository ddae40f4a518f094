"""The sessions of a worker process: one per model and order of devices, prepared when they are first needed."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from app.certificates.schemas import Standing, Subject
from app.log import DEVICE_CHANGED, DEVICE_LOST, DEVICE_REFUSED, SESSION_FAILED, SESSION_READY, get_logger
from inference import InferenceError, Options, UnsupportedModelError, artefacts, backend
from inference.adapters.tensors import numpy_dtype
from inference.devices import choose, precision
from inference.model import load_model

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

    from app.pipelines.schemas import PipelineSpec
    from inference import Backend, Device, Model, Session
    from inference.devices import Choice

_log = get_logger(__name__)

MAX_SESSIONS: Final = 128
BUSY_S: Final = 30.0
"""A model that no device takes is tried again after this long, not for every message."""
LOOK_S: Final = 5.0
"""How old what is known of a certificate may be."""
AGAIN_S: Final = 60.0
MOST_LOSSES: Final = 20
BLANK: Final[dict[str, Any]] = {"f": 0.0, "i": 0, "u": 0, "b": False}

Key = tuple[str, tuple[str, ...]]
"""A model's digest, and an order of devices."""


@dataclass(frozen=True, slots=True)
class Passport:
    """What computed an answer."""

    device_wanted: str = ""
    device: str = ""
    backend: str = ""
    nodes: int = 0
    on_device: int = 0
    driver: str = ""
    precision: str = "fp32"
    standing: Standing | None = None
    """Of its certificate; None where nobody asked for one."""

    @property
    def trusted(self) -> bool:
        """Whether answers are as good as their inputs."""
        return self.standing is None or self.standing.trusted


@dataclass(slots=True)
class Ready:
    """A session that runs, and what it is."""

    session: Session
    model: Model
    passport: Passport
    subject: Subject
    looked: float = 0.0
    """When its standing was asked for (monotonic seconds)."""


@dataclass(slots=True)
class Failed:
    """Why there is no session, and until when that is believed (monotonic seconds)."""

    reason: str
    until: float


def nobody(_: object) -> None:
    """The standing of everything where nobody keeps certificates; and who hears of lost devices where nobody does."""


@dataclass(slots=True)
class Sessions:
    """The sessions of this process, one per model and order of devices."""

    store: Path
    find: Callable[[str], Backend] = backend
    """The backend of a vendor."""
    standing: Callable[[Subject], Standing | None] = nobody
    """How a model and a device stand by their certificates."""
    losses: dict[str, list[float]] = field(default_factory=dict)
    """When each device was lost (monotonic seconds)."""
    waiting: set[str] = field(default_factory=set)
    """Devices that are taken only where no other takes the model, until `take_back`."""
    compiles_aside: bool = False
    """Whether another device of the order serves while a model is compiled for one, which somebody else does then."""
    uncompiled: set[tuple[Key, str]] = field(default_factory=set)
    """Sessions, and entries of their orders, for which a model has to be compiled."""
    unkept: set[Key] = field(default_factory=set)
    """Sessions for which it was, and what the compiler made could not be kept whole: they do not wait for it again."""
    lost: set[str] = field(default_factory=set)
    """Devices that were lost and have not run a model or passed their check since."""
    told: Callable[[Collection[str]], None] = nobody
    """Hears what is lost whenever that changes."""
    _held: dict[Key, Ready | Failed] = field(default_factory=dict)
    _blanks: dict[str, dict[str, Any]] = field(default_factory=dict)
    _returning: set[Key] = field(default_factory=set)

    def get(self, spec: PipelineSpec) -> Ready | Failed:
        """A prepared session, or why no device takes the model now."""
        key = (spec.model_digest, spec.devices)
        held = self._held.get(key)
        if isinstance(held, Ready):
            return self._looked_after(key, spec, held)
        if isinstance(held, Failed) and held.until > time.monotonic():
            return held
        if held is None and len(self._held) >= MAX_SESSIONS:
            self.drop_all()
        made = self._held[key] = self._prepare(spec)
        return made

    def held(self) -> dict[Key, Ready]:
        """Those that run now. From any thread."""
        return {key: one for key, one in self._held.copy().items() if isinstance(one, Ready)}

    def take_back(self, key: Key, device: str) -> None:
        """Let the next window of this session go to this device, which is well again. From any thread."""
        self.waiting.discard(device)
        self._returning.add(key)
        self.found(device)

    def found(self, device: str) -> None:
        """It is not lost, or no longer. From any thread."""
        if device in self.lost:
            self.lost.discard(device)
            self.told(self.lost.copy())

    def lose(self, spec: PipelineSpec, ready: Ready, why: str) -> None:
        """Close a session whose device has gone: the next call prepares another one.

        A device is tried again at once; one that is lost again within a minute waits behind the others of the order.
        """
        self.drop(spec)
        device, now = ready.passport.device, time.monotonic()
        losses = self.losses.setdefault(device, [])
        if losses and losses[-1] > now - AGAIN_S:
            self.waiting.add(device)
        losses[:] = [*losses[-MOST_LOSSES:], now]
        self.lost.add(device)
        self.told(self.lost.copy())
        _log.warning(DEVICE_LOST, pipeline=spec.name, device=device, reason=why)

    def blanks(self, spec: PipelineSpec) -> Mapping[str, Any]:
        """Per output of the model a value of its type; empty while the model could never be opened."""
        return self._blanks.get(spec.model_digest, {})

    def _looked_after(self, key: Key, spec: PipelineSpec, held: Ready) -> Ready:
        if held.looked + LOOK_S < time.monotonic():
            held.looked = time.monotonic()
            now, before = self.standing(held.subject), held.passport.standing
            held.passport = replace(held.passport, standing=now)
            if now != before and now is not None and now.state == "failed":
                self._returning.add(key)
        if key in self._returning:
            self._returning.discard(key)
            return self._chosen_anew(key, spec, held)
        return held

    def _chosen_anew(self, key: Key, spec: PipelineSpec, held: Ready) -> Ready:
        """The session on the device that would be chosen now; the present one stays until that is ready."""
        made = self._prepare(spec)
        if not isinstance(made, Ready):
            return held
        before = held.passport.device
        if (made.passport.device, made.passport.precision) == (before, held.passport.precision):
            made.session.close()
            return held
        self._held[key] = made
        held.session.close()
        _log.info(DEVICE_CHANGED, pipeline=spec.name, device=made.passport.device, before=before)
        return made

    def _prepare(self, spec: PipelineSpec) -> Ready | Failed:
        try:
            model = load_model(self.store, spec.model_digest)
            self._blanks[spec.model_digest] = {
                one.name: "" if one.dtype == "str" else BLANK.get(numpy_dtype(one.dtype).kind) for one in model.outputs
            }
            session, device, refusals = self._choose(spec, model)
        except (InferenceError, OSError) as error:
            _log.error(SESSION_FAILED, pipeline=spec.name, model=spec.model_digest, reason=str(error))
            return Failed(f"no_session: {error}", time.monotonic() + BUSY_S)
        for one in refusals:
            _log.warning(DEVICE_REFUSED, pipeline=spec.name, device=one.device, reason=one.reason)
        self.found(device.id)
        _log.info(SESSION_READY, pipeline=spec.name, device=device.id, backend=device.backend, driver=device.driver)
        placed, computed = session.placement, precision(spec.devices, refusals)
        subject = Subject.of(spec.model_digest, device, computed)
        passport = Passport(
            spec.devices[0], device.id, subject.backend, placed.nodes, placed.on_device, subject.driver, computed,
            self.standing(subject),
        )
        return Ready(session, model, passport, subject, time.monotonic())

    def _choose(self, spec: PipelineSpec, model: Model) -> Choice:
        """The first device that takes it; of those for which it is compiled already, where there is one."""
        order = spec.devices
        choosing = partial(choose, order, model, Options(threads=1), self.find, partial(self._put_off, spec))
        key = (spec.model_digest, order)
        if not self.compiles_aside or len(order) == 1 or key in self.unkept:
            return choosing()
        try:
            with artefacts.only_kept():
                found = choosing()
        except UnsupportedModelError as error:
            if artefacts.NOT_KEPT not in str(error):
                raise
            return choosing()
        waits = {one.device for one in found.refusals if one.reason == artefacts.NOT_KEPT}
        self.uncompiled |= {(key, one) for one in waits}
        return found

    def _put_off(self, spec: PipelineSpec, device: Device, computed: str) -> str:
        """Why a device is taken only where no other is: it was lost, or no check of it ever passed.

        Where a check has passed with another driver, the device keeps its place: it runs on, and its answers say so.
        """
        if device.id in self.waiting:
            return "it was lost, and is not taken again before it was seen well and has passed its check"
        standing = self.standing(Subject.of(spec.model_digest, device, computed))
        if standing is None or standing.first or standing.state in {"valid", "changed"}:
            return ""
        return f"its check is {standing.state}: headrace certify --pipeline '{spec.name}'"

    def drop(self, spec: PipelineSpec) -> None:
        """Close one session: the next call prepares a new one."""
        held = self._held.pop((spec.model_digest, spec.devices), None)
        if isinstance(held, Ready):
            held.session.close()

    def drop_all(self) -> None:
        """Close every session."""
        for held in self._held.values():
            if isinstance(held, Ready):
                held.session.close()
        self._held.clear()
