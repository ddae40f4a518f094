"""ONNX Runtime of the host's own Python as a target: the engine's driver, in this process or in a child of it."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence, Tuple  # noqa: UP035 - Python 3.8

import numpy as np

from . import LostError, Placement, RefusalError, RunError
from .precision import native

if TYPE_CHECKING:
    from . import Apart, Feeds, Graph, Json, Spec

CPU = "CPUExecutionProvider"
_LOOSE = ("str", "map", "sequence", "optional")


@dataclass(frozen=True)
class Provider:
    """What ONNX Runtime is told, as the vendor's file has it."""

    vendor: str
    provider: str
    options: Dict[str, str] = field(default_factory=dict)  # noqa: UP006 - Python 3.8
    precisions: Dict[str, List[Dict[str, str]]] = field(default_factory=lambda: {"fp32": [{}]})  # noqa: UP006 - 3.8
    """Options for each precision it can be asked for; several are those of different versions."""
    plugin: str = ""
    """The library of a provider that is no part of the runtime."""


class HostSession:
    """A model made ready."""

    def __init__(self, wire: Any, made: Any, told: Json, graph: Graph, provider: str) -> None:  # noqa: ANN401 - the driver
        """As the driver opened it."""
        self._wire, self._made, self._graph = wire, made, graph
        self._names = [spec.name for spec in graph.outputs]
        self.placement = _placed(told, provider, graph.nodes)
        self.order: Any = None

    def run(self, feeds: Feeds) -> Feeds:
        """Every output. Raises RunError, LostError."""
        if self._made is None:
            message = "the session is closed"
            raise LostError(message)
        checked(self._graph.inputs, feeds)
        self.order = self._made.order()
        try:
            answers = self._made.run(self._names, feeds, self.order)
        except self._wire.LostError as error:
            raise LostError(str(error)) from error
        except self._wire.EngineError as error:
            raise RunError(str(error)) from error
        return dict(zip(self._names, answers))  # noqa: B905 - Python 3.8

    def close(self) -> None:
        """Free it. Safe to call twice."""
        self._made = None


def _placed(told: Json, provider: str, nodes: int) -> Placement:
    parts = told["parts"]
    if parts is None and provider == CPU and told["providers"] == [CPU]:
        # No version tells less: there is nothing else that a node could run on.
        return Placement(nodes, nodes)
    if parts is None:
        reason = "this ONNX Runtime cannot tell where nodes run; unknown counts as fallen back"
        return Placement(nodes, 0, ("unknown",), reason)
    ours = sum(len(listed) for name, listed in parts if name == provider)
    others = tuple(f"{kind} {node} on {name}" for name, listed in parts if name != provider
                   for kind, node in listed)
    return Placement(ours + len(others), ours, others)


def checked(inputs: Sequence[Spec], feeds: Feeds) -> None:
    """As the gateway's own sessions do it: what does not fit is told by the input's name. Raises RunError."""
    names = sorted(spec.name for spec in inputs)
    if sorted(feeds) != names:
        message = f"the model takes {names}, not {sorted(feeds)}"
        raise RunError(message)
    for spec in inputs:
        value = feeds[spec.name]
        if spec.dtype in _LOOSE:
            continue
        shape = np.shape(value)
        fits = len(shape) == len(spec.shape) and all(
            want is None or want == have for want, have in zip(spec.shape, shape)  # noqa: B905 - Python 3.8
        )
        if not fits or np.asarray(value).dtype.name != spec.dtype:
            given = f"{np.asarray(value).dtype} {list(shape)}"
            message = f"input {spec.name!r} takes {spec.dtype} {list(spec.shape)}, not {given}"
            raise RunError(message)


@dataclass
class Host:
    """A provider of this Python's ONNX Runtime."""

    driver: Any
    """The module `engine_ort`."""
    wire: Any
    """The module `engine_wire`."""
    provider: Provider
    command: Sequence[str] = ()
    """Starts a child that serves `kit.child`; without it nothing can run in a process of its own."""


    @property
    def precisions(self) -> Tuple[str, ...]:  # noqa: UP006 - Python 3.8
        """What it can be asked for."""
        return tuple(self.provider.precisions)

    def open(self, graph: Graph, precision: str = "", feeds: Optional[Feeds] = None) -> HostSession:  # noqa: ARG002, UP045
        """Make ready; a provider finds no ranges by feeds. Raises RefusalError, LostError."""
        alternatives = self.provider.precisions.get(precision or native(self.precisions))
        if alternatives is None:
            message = "{} can be asked for {}".format(self.provider.vendor, ", ".join(self.provider.precisions))
            raise RefusalError(message)
        handle, path = tempfile.mkstemp(suffix=".onnx")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(graph.content)
            return self._understood(graph, path, alternatives)
        finally:
            with suppress(OSError):
                Path(path).unlink()

    def _understood(self, graph: Graph, path: str, alternatives: List[Dict[str, str]]) -> HostSession:  # noqa: UP006
        """The first options whose names this version knows; any other refusal is the answer."""
        unknown = []
        for more in alternatives:
            try:
                return self._opened(graph, path, more)
            except RefusalError as error:
                if "nknown provider option" not in str(error):
                    raise
                unknown.append(str(error))
        raise RefusalError("; ".join(unknown))

    def _opened(self, graph: Graph, path: str, more: Dict[str, str]) -> HostSession:  # noqa: UP006 - Python 3.8
        chosen = self.provider
        plugin = {"library": chosen.plugin, "name": "headrace.kit", "provider": chosen.provider, "ordinal": 0}
        body = {"path": path, "provider": chosen.provider, "told": dict(chosen.options, **more), "threads": 1,
                "dims": {}, "plugin": plugin if chosen.plugin else None}
        try:
            made, told = self.driver.open_session(body)
        except self.wire.LostError as error:
            raise LostError(str(error)) from error
        except self.wire.EngineError as error:
            raise RefusalError(str(error)) from error
        return HostSession(self.wire, made, told, graph, chosen.provider)

    def apart(self, graph: Graph, run_s: float) -> Apart:
        """In a child. Raises RefusalError, LostError."""
        from .child import Child  # noqa: PLC0415 - it makes one of these in its turn

        if not self.command:
            message = "there is no way to a process of its own here"
            raise RefusalError(message)
        return Child(self.command, graph, run_s)

    def resident(self) -> int:
        """Bytes of this process in memory."""
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
