"""The conformance kit: what is asked of a device and how its answers are judged.

Standard library and numpy, Python 3.8 upwards, and nothing else of the package: the archive that runs on a maker's host
is made of these files, and `headrace conform` asks the same of the gateway's own sessions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Dict, NamedTuple, Optional, Tuple  # noqa: UP035 - Python 3.8

if TYPE_CHECKING:
    from typing import Protocol
else:
    Protocol = object

Value = Any
"""An array; a list of arrays for a sequence; None for an optional that holds nothing."""
Feeds = Dict[str, Value]  # noqa: UP006 - Python 3.8
Json = Dict[str, Any]  # noqa: UP006 - Python 3.8

PASSED, FAILED, NOT_POSSIBLE = "passed", "failed", "not_possible"
"""Verdicts of a section. `not_possible`: the device, or the way it is reached, cannot do this; the reason says why."""


class RefusalError(Exception):
    """The device does not take the model; the message is its own."""


class RunError(Exception):
    """The model was taken, and a run ended in an error; the message is the runtime's."""


class LostError(RunError):
    """The session or its process is gone: another has to be opened."""


class Spec(NamedTuple):
    """An input or output; `dtype` is numpy's name, `str`, `map`, `sequence` or `optional`; None is a free dimension."""

    name: str
    dtype: str
    shape: Tuple[Optional[int], ...]  # noqa: UP006, UP045 - Python 3.8


class Placement(NamedTuple):
    """Nodes, how many ran on the device, and the others by operator and name. Unknown counts as fallen back."""

    nodes: int
    on_device: int
    fallen_back: Tuple[str, ...] = ()  # noqa: UP006 - Python 3.8
    reason: str = ""

    @property
    def whole(self) -> bool:
        """Whether every node is known to have run on the device."""
        return self.nodes == self.on_device and not self.fallen_back


@dataclass(frozen=True)
class Graph:
    """A model that the kit carries."""

    name: str
    content: bytes
    """The .onnx file."""
    inputs: Tuple[Spec, ...]  # noqa: UP006 - Python 3.8
    outputs: Tuple[Spec, ...]  # noqa: UP006 - Python 3.8
    nodes: int
    opset: int = 0
    ir_version: int = 0


@dataclass(frozen=True)
class Case:
    """One case of ONNX's backend test."""

    graph: Graph
    operator: str
    """The case is counted under: that of its first node."""
    vectors: Tuple[Tuple[Tuple[Value, ...], Tuple[Value, ...]], ...]  # noqa: UP006 - Python 3.8
    """Inputs and expected outputs, in the order of the graph."""
    rtol: float
    atol: float
    kind: str = "node"
    """ONNX's own: node, simple, pytorch-converted, pytorch-operator."""
    barred: str = ""
    """Why no session can carry it: a type that numpy lacks."""

    @property
    def name(self) -> str:
        """ONNX's own."""
        return self.graph.name


@dataclass(frozen=True)
class Question:
    """A model of a class that plants use, with what onnx's own evaluator answers in its widest type."""

    graph: Graph
    inputs: Feeds
    outputs: Feeds
    precision: str = "fp32"
    """The class that its own types ask for: fp32, fp16, int8."""
    what: str = ""
    """What it stands for, in English."""
    batched: bool = True
    """Whether the first dimension of each input counts independent rows."""
    wide: bool = False
    """Whether it leaves the range of half precision on its way: then it is asked as it is, and nothing else of it."""
    tolerances: Dict[str, Tuple[float, float]] = field(default_factory=dict)  # noqa: UP006 - Python 3.8
    """Of outputs that have their own."""


class Opened(Protocol):
    """A model made ready on the device."""

    placement: Placement

    def run(self, feeds: Feeds) -> Feeds:
        """Every output by name. Raises RunError."""

    def close(self) -> None:
        """Free it."""


class Apart(Protocol):
    """A model made ready in a process of its own."""

    def run(self, feeds: Feeds) -> Feeds:
        """Every output. Raises RunError, also where the run was given up; LostError where the process has gone."""

    def kill(self) -> None:
        """End the process at once, also while it runs."""

    def open_again(self, graph: Optional[Graph] = None) -> None:  # noqa: UP045 - Python 3.8
        """The same model, or another, in the process that lives or in a new one. Raises RefusalError, LostError."""

    def pid(self) -> Optional[int]:  # noqa: UP045 - Python 3.8
        """Of the process, while it lives."""

    def close(self) -> None:
        """End it."""


class Target(Protocol):
    """A device, as the kit sees it."""

    @property
    def precisions(self) -> Tuple[str, ...]:  # noqa: UP006 - Python 3.8
        """What it can be asked for."""

    def open(self, graph: Graph, precision: str = "", feeds: Optional[Feeds] = None) -> Opened:  # noqa: UP045 - 3.8
        """Make ready, in what it computes unasked (`precision.native`) or in this precision. Raises RefusalError.

        `feeds`: what ranges may be found by, where it computes in int8.
        """

    def apart(self, graph: Graph, run_s: float) -> Apart:
        """In a process of its own; runs are given up after `run_s`. Raises RefusalError where there is no such way."""

    def resident(self) -> int:
        """Bytes in memory of the process that holds the sessions of `open`."""
