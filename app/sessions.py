"""The sessions of a worker process: one per model and order of devices, prepared when they are first needed."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from app.log import DEVICE_REFUSED, SESSION_FAILED, SESSION_READY, get_logger
from inference import InferenceError, Options, backend
from inference.adapters.tensors import numpy_dtype
from inference.devices import choose, precision
from inference.model import load_model

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from app.pipelines.schemas import PipelineSpec
    from inference import Backend, Model, Session

_log = get_logger(__name__)

MAX_SESSIONS: Final = 128
BUSY_S: Final = 30.0
"""A model that no device takes is tried again after this long, not for every message."""
BLANK: Final[dict[str, Any]] = {"f": 0.0, "i": 0, "u": 0, "b": False}


@dataclass(frozen=True, slots=True)
class Passport:
    """What computed an answer."""

    device_wanted: str = ""
    device: str = ""
    backend: str = ""
    nodes: int = 0
    on_device: int = 0
    precision: str = "fp32"


@dataclass(slots=True)
class Ready:
    """A session that runs, and what it is."""

    session: Session
    model: Model
    passport: Passport


@dataclass(slots=True)
class Failed:
    """Why there is no session, and until when that is believed (monotonic seconds)."""

    reason: str
    until: float


@dataclass(slots=True)
class Sessions:
    """The sessions of this process, one per model and order of devices."""

    store: Path
    find: Callable[[str], Backend] = backend
    """The backend of a vendor."""
    _held: dict[tuple[str, tuple[str, ...]], Ready | Failed] = field(default_factory=dict)
    _blanks: dict[str, dict[str, Any]] = field(default_factory=dict)

    def get(self, spec: PipelineSpec) -> Ready | Failed:
        """A prepared session, or why no device takes the model now."""
        key = (spec.model_digest, spec.devices)
        held = self._held.get(key)
        if isinstance(held, Ready) or (isinstance(held, Failed) and held.until > time.monotonic()):
            return held
        if held is None and len(self._held) >= MAX_SESSIONS:
            self.drop_all()
        made = self._held[key] = self._prepare(spec)
        return made

    def blanks(self, spec: PipelineSpec) -> Mapping[str, Any]:
        """Per output of the model a value of its type; empty while the model could never be opened."""
        return self._blanks.get(spec.model_digest, {})

    def _prepare(self, spec: PipelineSpec) -> Ready | Failed:
        try:
            model = load_model(self.store, spec.model_digest)
            self._blanks[spec.model_digest] = {
                one.name: "" if one.dtype == "str" else BLANK.get(numpy_dtype(one.dtype).kind) for one in model.outputs
            }
            session, device, refusals = choice = choose(spec.devices, model, Options(threads=1), self.find)
        except (InferenceError, OSError) as error:
            _log.error(SESSION_FAILED, pipeline=spec.name, model=spec.model_digest, reason=str(error))
            return Failed(f"no_session: {error}", time.monotonic() + BUSY_S)
        for one in refusals:
            _log.warning(DEVICE_REFUSED, pipeline=spec.name, device=one.device, reason=one.reason)
        _log.info(SESSION_READY, pipeline=spec.name, device=device.id, backend=device.backend)
        placed = session.placement
        computed = precision(spec.devices, refusals)
        passport = Passport(choice.requested, device.id, device.backend, placed.nodes, placed.on_device, computed)
        return Ready(session, model, passport)

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
