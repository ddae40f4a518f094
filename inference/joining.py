"""What may go into one run of a session, how requests become one, and how its outputs are cut apart again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from inference import InferenceError, InputError
from inference.adapters.session import CheckedSession
from inference.golden import samples, stored_inputs

if TYPE_CHECKING:
    from inference import Model, Session, Tensor

Feeds = Mapping[str, "Tensor"]
Outputs = dict[str, "Tensor"]
Outcome = Outputs | InferenceError
Then = Callable[[Outcome], object]
WARM_ROWS: Final = 64
"""In the largest run before the first request: the runtime has then taken the memory that runs of many rows need."""


@dataclass(slots=True)
class Request:
    """One call of a session that waits for its run."""

    feeds: Feeds
    rows: int
    kind: tuple[object, ...] | None
    """Equal for what one run can take; None for what is run by itself."""
    since: float
    """Monotonic seconds."""
    then: Then
    outcome: Outcome | None = None


def joinable(session: Session, model: Model) -> bool:
    """Whether rows of several requests may go into one run.

    The trial of `adapters.batching` must have shown that rows do not know each other, and every input must count them:
    a model without a batch, with rows that change each other's answers, or that could not be tried, is never joined.
    """
    if not isinstance(session, CheckedSession):
        return False
    batching = session.batching
    return batching.mode == "rows" and not batching.reason and {one.name for one in model.inputs} <= {*batching.batched}


def warm(session: Session, model: Model, rows: int) -> None:
    """Run what the runtime would otherwise make up for at the first request. Raises DeviceLostError.

    Golden inputs suit the model; where there are none, samples do as a rule, and a refusal of them says nothing.
    """
    feeds = stored_inputs(model.golden) if model.golden is not None else samples(model.inputs, rows=1, seed=1)
    try:
        session.run(feeds)
        if rows > 1:
            session.run({name: _repeated(value, rows) for name, value in feeds.items()})
            session.run({name: value[:1] for name, value in feeds.items()})
    except InputError:
        return


def _repeated(value: Tensor, rows: int) -> Tensor:
    return np.resize(value, (rows, *value.shape[1:]))


def outcomes(session: Session, requests: Sequence[Request]) -> None:
    """Give each its outcome; where a run of several was refused, each by itself, so that none fails for another.

    Raises DeviceLostError.
    """
    if len(requests) > 1:
        try:
            _cut(requests, session.run(_joined(requests)))
        except (InputError, MemoryError):
            pass
        else:
            return
    for one in requests:
        try:
            one.outcome = session.run(one.feeds)
        except InputError as error:
            one.outcome = error


def _joined(requests: Sequence[Request]) -> Outputs:
    """Along the first axis, in the order of the requests."""
    return {name: np.concatenate([one.feeds[name] for one in requests]) for name in requests[0].feeds}


def _cut(requests: Sequence[Request], outputs: Mapping[str, Any]) -> None:
    """Each its own rows, as views. Raises InputError when an output does not count rows after all."""
    rows = sum(one.rows for one in requests)
    for name, value in outputs.items():
        if not value.ndim or len(value) != rows:
            message = f"output {name!r} has shape {list(value.shape)} for {rows} rows"
            raise InputError(message)
    at = 0
    for one in requests:
        end = at + one.rows
        one.outcome = {name: value[at:end] for name, value in outputs.items()}
        at = end
