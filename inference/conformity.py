"""Our own backends and sessions as the conformance kit sees a device."""

from __future__ import annotations

import os
import signal
import tempfile
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx

from inference import (
    BackendNotInstalledError,
    DeviceLostError,
    InferenceError,
    InvalidModelError,
    Model,
    Options,
    TensorSpec,
    UnsupportedModelError,
    backend,
    engines,
)
from inference.adapters.remote import Engine
from inference.engine import resident
from inference.golden import FEEDS, Golden, read, write
from inference.kit import Graph, LostError, Placement, Question, RefusalError, RunError, Spec
from inference.kit.precision import native

if TYPE_CHECKING:
    from inference import Backend, Device, Session, Tensor
    from inference.kit import Feeds, Value


def model(graph: Graph, path: Path) -> Model:
    """The kit's model as a checked one of ours, written to `path`."""
    path.write_bytes(graph.content)
    return Model(
        digest="", sm3="", name=graph.name, version="", path=path,
        inputs=tuple(TensorSpec(*one) for one in graph.inputs),
        outputs=tuple(TensorSpec(*one) for one in graph.outputs),
        opset=graph.opset, ir_version=graph.ir_version, nodes=graph.nodes,
    )


class OwnSession:
    """A session of ours."""

    def __init__(self, session: Session) -> None:
        """As a backend made it."""
        self._session = session
        placed = session.placement
        self.placement = Placement(placed.nodes, placed.on_device, placed.fallen_back, placed.reason)

    def run(self, feeds: Feeds) -> Feeds:
        """Every output. Raises RunError."""
        try:
            return {name: _value(one) for name, one in self._session.run(feeds).items()}
        except DeviceLostError as error:
            raise LostError(str(error)) from error
        except InferenceError as error:
            raise RunError(str(error)) from error

    def close(self) -> None:
        """Free it."""
        self._session.close()


def _value(given: Tensor) -> Value:
    """An answer as the kit has it: what our sessions put into arrays of objects are lists, or nothing at all."""
    if given.dtype != object or (given.size and isinstance(given.flat[0], str | dict)):
        return given
    return given.tolist() if given.ndim == 1 and all(isinstance(one, np.ndarray) for one in given) else (
        None if given.ndim == 0 and given.item() is None else given
    )


@dataclass
class Own:
    """A device of ours as a target."""

    backend: Backend
    device: Device
    precisions: tuple[str, ...] = ("fp32",)

    def open(self, graph: Graph, precision: str = "", feeds: Feeds | None = None) -> OwnSession:
        """Make ready. Raises RefusalError, RunError."""
        asked = Options(precision=precision or native(self.precisions))
        with tempfile.TemporaryDirectory(prefix="headrace-conform-") as folder:
            given = model(graph, Path(folder, "model.onnx"))
            if feeds is not None:
                typical = Golden({name: np.asarray(value) for name, value in feeds.items()}, {})
                write(typical, given.path.with_name(FEEDS))
            try:
                return OwnSession(self.backend.prepare(given, self.device, asked))
            except (UnsupportedModelError, BackendNotInstalledError) as error:
                raise RefusalError(str(error)) from error
            except InferenceError as error:
                raise RunError(str(error)) from error

    def apart(self, graph: Graph, run_s: float) -> OwnApart:
        """In an engine of its own; runs are given up after `run_s`. Raises RefusalError, LostError."""
        return OwnApart(self.device, graph, run_s, self.precisions)

    def resident(self) -> int:
        """Bytes in memory of the process that holds the sessions: ours, or the vendor's engine."""
        engine = engines.engine(self.device.vendor)
        pid = None if engine is None else engine.pid()
        return resident() if pid is None else resident(pid)


class OwnApart:
    """A session in an engine of its own, whatever the vendor's other sessions run in."""

    def __init__(self, device: Device, graph: Graph, run_s: float, precisions: tuple[str, ...] = ("fp32",)) -> None:
        """Start it and make the model ready. Raises RefusalError, LostError."""
        shared = engines.engine(device.vendor)
        place = engines.place() if shared is None else shared.place
        self._engine = Engine(replace(place, run_s=run_s))
        self._device, self._graph, self._precisions = device, graph, precisions
        try:
            self._backend = engines.inside(self._engine, device.vendor, backend(device.vendor))
        except ValueError as error:
            message = f"{device.vendor} cannot run in a process of its own"
            raise RefusalError(message) from error
        self._session: OwnSession | None = None
        try:
            self.open_again()
        except (RefusalError, RunError):
            self.close()
            raise

    def open_again(self, graph: Graph | None = None) -> None:
        """The same model, or another, in the process that lives or in a new one. Raises RefusalError, LostError."""
        self._session = Own(self._backend, self._device, self._precisions).open(graph or self._graph)

    def run(self, feeds: Feeds) -> Feeds:
        """Every output. Raises RunError, LostError."""
        if self._session is None:
            message = "nothing is open"
            raise LostError(message)
        return self._session.run(feeds)

    def pid(self) -> int | None:
        """Of the engine."""
        return self._engine.pid()

    def kill(self) -> None:
        """End it as a crash would."""
        pid = self._engine.pid()
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        """End it. Safe to call twice."""
        if self._session is not None:
            self._session.close()
        self._engine.stop()


def precisions(backend: Backend) -> tuple[str, ...]:
    """What a backend can be asked for; fp32 where it does not say."""
    return tuple(getattr(backend, "precisions", ("fp32",)))


def question(model: Model) -> Question:
    """A checked model as one of the kit's: its weights in the file itself, its golden vectors. InvalidModelError."""
    if model.golden is None:
        message = "there are no golden vectors to hold the model to: add a golden.npz to its package"
        raise InvalidModelError(message)
    golden = read(model.golden)
    graph = Graph(
        model.name, onnx.load(model.path).SerializeToString(), tuple(map(_spec, model.inputs)),
        tuple(map(_spec, model.outputs)), model.nodes, model.opset, model.ir_version,
    )
    batched = model.manifest.get("batch") != "whole" and all(one.shape and one.shape[0] is None for one in model.inputs)
    return Question(
        graph, dict(golden.inputs), dict(golden.outputs), "fp32", f"{model.name} {model.version}, {model.digest}",
        batched, tolerances=dict(golden.tolerances),
    )


def _spec(given: TensorSpec) -> Spec:
    return Spec(given.name, given.dtype, given.shape)
