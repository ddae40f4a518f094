"""Models that carry a state: windows one after the other, each fed what the one before it has left."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from app.feeding import constants, feed
from app.inferring import Outcome, answered
from app.sessions import Failed, Passport
from inference import DeviceLostError, InputError
from inference.adapters.tensors import numpy_dtype

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from app.inferring import Answer
    from app.pipelines.schemas import PipelineSpec
    from app.sessions import Ready, Sessions
    from inference import Model

State = dict[str, "NDArray[Any]"]
"""By the name of the input that takes it, of one window."""


@dataclass(frozen=True, slots=True)
class Carried:
    """A state on its way into the database."""

    before: int
    """Number of the window that it was computed from; 0: from the beginning."""
    after: int
    state: bytes


class _Kept(msgspec.Struct, array_like=True, frozen=True):
    dtype: str
    shape: tuple[int, ...]
    content: bytes


_decoder = msgspec.msgpack.Decoder(dict[str, _Kept])


def initial(spec: PipelineSpec, model: Model) -> State:
    """Zeros, in the shape that the model's inputs have for one window."""
    shapes = {one.name: (tuple(size or 1 for size in one.shape), numpy_dtype(one.dtype)) for one in model.inputs}
    return {name: np.zeros(*shapes[name]) for name in spec.state}


def packed(state: State) -> bytes:
    """As the database keeps it: little-endian, typed and measured."""
    little = {name: value.astype(value.dtype.newbyteorder("<")) for name, value in state.items()}
    return msgspec.msgpack.encode({
        name: _Kept(value.dtype.str, value.shape, value.tobytes()) for name, value in little.items()
    })


def unpacked(body: bytes, spec: PipelineSpec, model: Model) -> State:
    """The state as it was kept; ValueError or msgspec.MsgspecError where it is not one of this model."""
    kept = _decoder.decode(body)
    found = {name: np.frombuffer(one.content, dtype=one.dtype).reshape(one.shape) for name, one in kept.items()}
    wanted = initial(spec, model)
    if {name: one.shape for name, one in found.items()} != {name: one.shape for name, one in wanted.items()}:
        message = "the state that was kept is not that of this model"
        raise ValueError(message)
    return {name: value.astype(wanted[name].dtype) for name, value in found.items()}


class Carrier:
    """Runs windows in their order; `state` is what the last of them has left."""

    def __init__(self, state: State) -> None:
        """Before the first of them."""
        self.state = state

    def run(self, sessions: Sessions, spec: PipelineSpec, windows: NDArray[np.floating[Any]]) -> Outcome:
        """An answer each. What is refused leaves the state as it was, and so does a state that is not finite."""
        answers: list[Answer] = []
        passport, start = Passport(), time.perf_counter_ns()
        for at in range(len(windows)):
            ready, answer = self._one(sessions, spec, windows[at:at + 1])
            answers.append(answer)
            passport = passport if ready is None else ready.passport
        return Outcome(answers, passport, time.perf_counter_ns() - start)

    def _one(
        self, sessions: Sessions, spec: PipelineSpec, window: NDArray[np.floating[Any]]
    ) -> tuple[Ready | None, Answer]:
        reason = ""
        for _ in range(min(2, len(spec.devices)) + 1):
            ready = sessions.get(spec)
            if isinstance(ready, Failed):
                return None, reason or ready.reason
            try:
                return ready, self._step(ready, spec, window)
            except DeviceLostError as error:
                sessions.lose(spec, ready, str(error))
                reason = f"device_lost: {error}"
            except InputError as error:
                return ready, f"input_refused: {error}"
        return None, reason

    def _step(self, ready: Ready, spec: PipelineSpec, window: NDArray[np.floating[Any]]) -> Answer:
        fed, usable = feed(spec, ready.model, window)
        if not usable.all():
            return "out_of_range"
        found = ready.session.run({spec.model_input: fed, **constants(spec, ready.model, 1), **self.state})
        left = {name: np.asarray(found[output]) for name, output in spec.state.items()}
        for name, value in left.items():
            if value.shape != self.state[name].shape:
                message = f"it left {name} as {list(value.shape)}, and takes {list(self.state[name].shape)}"
                raise InputError(message)
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                return f"not_finite: {name}"
        answer = answered(spec, found)
        if not isinstance(answer, str):
            self.state = {name: value.astype(self.state[name].dtype) for name, value in left.items()}
        return answer
