"""Windows in, answers out: each block of a message is run on the session its pipeline version was made ready on."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from app.log import get_logger
from connectors import Status
from inference import DeviceLostError, InferenceError, InputError, Options
from inference.adapters.tensors import numpy_dtype
from inference.devices import choose
from inference.model import load_model

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from app.pipelines.schemas import PipelineSpec
    from app.pipelines.service import Version
    from app.records import WindowBlock
    from inference import Model, Session

_log = get_logger(__name__)

MAX_SESSIONS: Final = 128
BUSY_S: Final = 30.0
"""A version that no device takes is tried again after this long, not for every message."""


@dataclass(frozen=True, slots=True)
class Passport:
    """What computed an answer."""

    device_wanted: str
    device: str
    backend: str
    nodes: int
    on_device: int


NOWHERE: Final = Passport("", "", "", 0, 0)


@dataclass(frozen=True, slots=True)
class Scored:
    """One block's windows with their answers, in columns of length n."""

    version: Version
    start_time: NDArray[np.int64]
    end_time: NDArray[np.int64]
    sequence: NDArray[np.int64]
    status: list[int]
    reason: list[str]
    """Why there is no answer; empty where there is one."""
    outputs: list[dict[str, Any]]
    context: tuple[dict[str, object], ...]
    digest: list[str]
    latency_ns: int
    newest: int
    passport: Passport
    dead: str = ""
    """What the model said when it refused the windows as they are: becomes a dead letter."""

    def __len__(self) -> int:
        """The number of windows."""
        return len(self.sequence)


@dataclass(slots=True)
class _Ready:
    session: Session
    model: Model
    passport: Passport


@dataclass(slots=True)
class _Failed:
    reason: str
    until: float


@dataclass(slots=True)
class Sessions:
    """The sessions of this process, one per model and order of devices."""

    store: Path
    _held: dict[tuple[str, tuple[str, ...]], _Ready | _Failed] = field(default_factory=dict)

    def get(self, spec: PipelineSpec) -> _Ready | _Failed:
        """A prepared session, or why no device takes the model now."""
        key = (spec.model_digest, spec.devices)
        held = self._held.get(key)
        if isinstance(held, _Ready) or (isinstance(held, _Failed) and held.until > time.monotonic()):
            return held
        if len(self._held) >= MAX_SESSIONS:
            self.drop_all()
        made = self._held[key] = self._prepare(spec)
        return made

    def _prepare(self, spec: PipelineSpec) -> _Ready | _Failed:
        try:
            model = load_model(self.store, spec.model_digest)
            session, device, refusals = choice = choose(spec.devices, model, Options(threads=1))
        except (InferenceError, OSError) as error:
            _log.error("session_failed", pipeline=spec.name, model=spec.model_digest, error=str(error))
            return _Failed(f"no_session: {error}"[:300], time.monotonic() + BUSY_S)
        for refused in refusals:
            _log.warning("device_refused", pipeline=spec.name, device=refused.device, reason=refused.reason)
        _log.info("session_ready", pipeline=spec.name, device=device.id, backend=device.backend)
        placed = session.placement
        return _Ready(
            session, model, Passport(choice.requested, device.id, device.backend, placed.nodes, placed.on_device)
        )

    def drop(self, spec: PipelineSpec) -> None:
        """Close one session: the next call prepares a new one."""
        held = self._held.pop((spec.model_digest, spec.devices), None)
        if isinstance(held, _Ready):
            held.session.close()

    def drop_all(self) -> None:
        """Close every session."""
        for held in self._held.values():
            if isinstance(held, _Ready):
                held.session.close()
        self._held.clear()


def score(sessions: Sessions, version: Version, block: WindowBlock) -> Scored:
    """Run one block. Never raises for what a model or a device does: then the windows are refused with the reason."""
    cells, status = _cells(block)
    quality = np.frombuffer(block.quality, dtype="<u4").astype(int).tolist()
    reason = [""] * len(quality)
    for index, why in block.refused:
        reason[index] = why
    first = np.frombuffer(block.first_row, dtype="<i8")
    outputs: list[dict[str, Any]] = [{} for _ in quality]
    wanted = [index for index, why in enumerate(reason) if not why]
    passport, latency, dead = NOWHERE, 0, ""
    if wanted:
        rows = first[wanted][:, None] + np.arange(block.length)
        found, failed, passport, latency, dead = _run(sessions, version.spec, cells[rows])
        _settle(wanted, found, failed, outputs, reason, quality)
    return Scored(
        version=version,
        start_time=np.frombuffer(block.start_time, dtype="<i8"),
        end_time=np.frombuffer(block.end_time, dtype="<i8"),
        sequence=np.frombuffer(block.sequence, dtype="<i8"),
        status=quality,
        reason=reason,
        outputs=outputs,
        context=block.context,
        digest=[_digest(cells, status, int(at), block.length) for at in first],
        latency_ns=latency // max(1, len(wanted)),
        newest=block.newest,
        passport=passport,
        dead=dead,
    )


def _cells(block: WindowBlock) -> tuple[NDArray[np.float64], NDArray[np.uint32]]:
    shape = (block.rows, block.inputs)
    cells = np.frombuffer(block.block, dtype="<f8").reshape(shape)
    return cells, np.frombuffer(block.status, dtype="<u4").reshape(shape)


def _digest(cells: NDArray[np.float64], status: NDArray[np.uint32], at: int, length: int) -> str:
    """SHA-256 over the window's float64 values, then its uint32 statuses, little-endian, row-major."""
    digest = sha256(cells[at : at + length].tobytes())
    digest.update(status[at : at + length].tobytes())
    return digest.hexdigest()


_Outcome: TypeAlias = tuple[list[dict[str, Any]], str, Passport, int, str]


def _run(sessions: Sessions, spec: PipelineSpec, windows: NDArray[np.float64]) -> _Outcome:
    """Answers per window, or why there are none, what computed them, ns taken, and what the model refused."""
    for last in (False, True):
        ready = sessions.get(spec)
        if isinstance(ready, _Failed):
            return [], ready.reason, NOWHERE, 0, ""
        start = time.perf_counter_ns()
        try:
            found = ready.session.run({spec.model_input: feed(spec, ready.model, windows)})
        except InputError as error:
            return [], f"input_refused: {error}"[:300], ready.passport, 0, str(error)
        except DeviceLostError as error:
            sessions.drop(spec)
            _log.warning("device_lost", pipeline=spec.name, error=str(error))
            if last:
                return [], f"device_lost: {error}"[:300], ready.passport, 0, ""
            continue
        taken = time.perf_counter_ns() - start
        return _answers(spec, found, len(windows)), "", ready.passport, taken, ""
    raise AssertionError


def feed(spec: PipelineSpec, model: Model, windows: NDArray[np.float64]) -> NDArray[Any]:
    """Windows (n, length, inputs) in the layout and element type that the model takes."""
    dtype = next((numpy_dtype(one.dtype) for one in model.inputs if one.name == spec.model_input), np.dtype(np.float32))
    laid = windows.transpose(0, 2, 1) if spec.layout == "NCT" else windows
    if spec.layout == "NC":
        laid = laid.reshape(len(windows), -1)
    return np.ascontiguousarray(laid, dtype=dtype)


def _answers(spec: PipelineSpec, found: dict[str, NDArray[Any]], count: int) -> list[dict[str, Any]]:
    """One mapping per window; KeyError-free: an output the model does not give was refused when it was applied."""
    names = [one.name for one in spec.outputs]
    columns = {name: found[name] for name in names if name in found}
    return [{name: _plain(column[row]) for name, column in columns.items()} for row in range(count)]


def _plain(value: Any) -> Any:  # noqa: ANN401 - whatever a model answers with
    """As JSON holds it; an array of one is that one."""
    if isinstance(value, np.ndarray):
        flat = value.tolist()
        return flat[0] if value.size == 1 and isinstance(flat, list) and not isinstance(flat[0], list) else flat
    return value.item() if isinstance(value, np.generic) else value


def _finite(value: Any) -> bool:  # noqa: ANN401 - whatever a model answers with
    if isinstance(value, float):
        return bool(np.isfinite(value))
    if isinstance(value, list):
        return all(_finite(item) for item in value)
    return all(_finite(item) for item in value.values()) if isinstance(value, dict) else True


def _settle(
    wanted: list[int],
    found: list[dict[str, Any]],
    failed: str,
    outputs: list[dict[str, Any]],
    reason: list[str],
    quality: list[int],
) -> None:
    """Put answers where they belong; a failure or a value that is not finite makes the window Bad, with the reason."""
    for position, index in enumerate(wanted):
        if failed:
            reason[index], quality[index] = failed, Status.BAD_DATA_UNAVAILABLE
            continue
        bad = next((name for name, value in found[position].items() if not _finite(value)), None)
        if bad is None:
            outputs[index] = found[position]
        else:
            reason[index], quality[index] = f"not_finite:{bad}", Status.BAD_OUT_OF_RANGE
