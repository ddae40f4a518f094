"""Windows in, answers out: each block of a message is run on the session its pipeline version was made ready on."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from app.feeding import constants, feed
from app.sessions import Failed, Passport, Ready, Sessions
from connectors import Status
from inference import DeviceLostError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import TypeAlias

    from numpy.typing import NDArray

    from app.carrying import Carried
    from app.pipelines.schemas import PipelineSpec
    from app.pipelines.service import Version
    from app.records import WindowBlock

    Run: TypeAlias = Callable[[Sessions, PipelineSpec, NDArray[np.floating[Any]]], "Outcome"]

MOST_TOGETHER: Final = 1024
"""Windows of several pipelines in one call."""

Answer = dict[str, Any] | str
"""Output name to value; or why there is none."""
KEPT: Final = ("input_refused", "killed_worker", "not_storable")
"""Reasons that are the window's own fault, or may be: such windows are kept, and can be mended and computed again."""


UNCERTIFIED: Final = Status.UNCERTAIN_CONFIGURATION_ERROR
"""Of an answer from Good inputs that no valid certificate stands behind (IEC 62541-8, 6.3.2: the value may not be
accurate due to a configuration issue). An input's own Uncertain says more, and stays."""
NOWHERE: Final = Passport()


@dataclass(frozen=True, slots=True)
class Dead:
    """Windows of a block that become a dead letter."""

    why: str
    """What the model, the database or the engine said of the first of them; begins with a word of `KEPT`."""
    windows: tuple[int, ...]
    """Their places in the block."""


@dataclass(frozen=True, slots=True)
class Scored:
    """One block's windows with their answers, in columns of length n."""

    version: Version
    block: WindowBlock
    start_time: NDArray[np.int64]
    end_time: NDArray[np.int64]
    sequence: NDArray[np.int64]
    status: list[int]
    reason: list[str]
    """Why there is no answer; empty where there is one."""
    outputs: list[dict[str, Any]]
    context: tuple[dict[str, object], ...]
    """One per window; empty when the pipeline has none."""
    digest: list[str]
    """SHA-256 of each window, hexadecimal."""
    latency_ns: int
    newest: int
    passport: Passport
    blanks: Mapping[str, Any]
    """Per output a value of its type, to be shown with a Bad status where there is no answer."""
    dead: Dead | None = None
    carried: Carried | None = None
    """The state that the model has left, where it carries one."""

    def __len__(self) -> int:
        """The number of windows."""
        return len(self.sequence)


def refused(scored: Scored, reason: str) -> Scored:
    """The same windows, none of them answered."""
    count = len(scored)
    runnable = tuple(index for index, why in enumerate(scored.reason) if not why or _is_kept(why))
    return replace(
        scored,
        status=[Status.BAD] * count,
        reason=[reason] * count,
        outputs=[{}] * count,
        context=(),
        dead=Dead(reason, runnable) if runnable else None,
    )


def unanswered(sessions: Sessions, version: Version, block: WindowBlock, reason: str) -> Scored:
    """Windows that are not run, for this reason; those that the gateway refused keep theirs."""
    work = _Work.of(version, block)
    work.outcome = Outcome([reason] * len(work.wanted))
    return work.scored(sessions)


def _is_kept(reason: str) -> bool:
    return reason.partition(":")[0] in KEPT


def score(sessions: Sessions, version: Version, block: WindowBlock, run: Run | None = None) -> Scored:
    """One block by itself; see `score_all`."""
    return score_all(sessions, [(version, block)], run)[0]


def score_all(
    sessions: Sessions, blocks: Sequence[tuple[Version, WindowBlock]], run: Run | None = None
) -> list[Scored]:
    """Run blocks, those that go to one session in the same shape together: a call costs more than its windows.

    What a model or a device cannot do refuses windows with the reason; nothing is raised for it. ValueError when a
    block is not one that a gateway made: its columns differ in length. `run`: how windows are run.
    """
    works = [_Work.of(version, block) for version, block in blocks]
    for together in _alike(works):
        _run_together(sessions, together, run or _run)
    return [work.scored(sessions) for work in works]


def _alike(works: Iterable[_Work]) -> list[list[_Work]]:
    """Those with windows to run, in groups that one call can take."""
    groups: dict[tuple[object, ...], list[list[_Work]]] = {}
    for work in works:
        if not len(work.windows):
            continue
        parts = groups.setdefault(work.kind, [[]])
        if parts[-1] and sum(len(one.windows) for one in parts[-1]) + len(work.windows) > MOST_TOGETHER:
            parts.append([])
        parts[-1].append(work)
    return [part for parts in groups.values() for part in parts]


def _run_together(sessions: Sessions, works: Sequence[_Work], run: Run) -> None:
    """Give each its outcome; where windows were refused as they are, each by itself, so that it is known whose."""
    spec = works[0].version.spec
    if len(works) > 1:
        outcome = run(sessions, spec, np.concatenate([work.windows for work in works]))
        if not outcome.dead:
            answers = iter(outcome.answers)
            each_ns = outcome.taken_ns / max(1, len(outcome.answers))
            for work in works:
                count = len(work.windows)
                mine = [*islice(answers, count)]
                work.outcome = replace(outcome, answers=mine, taken_ns=round(each_ns * count))
            return
    for work in works:
        work.outcome = run(sessions, work.version.spec, work.windows)


@dataclass(slots=True)
class _Work:
    """One block on its way through a session."""

    version: Version
    block: WindowBlock
    columns: _Columns
    reason: list[str]
    wanted: list[int]
    """Windows that the gateway did not refuse."""
    windows: NDArray[np.floating[Any]]
    """Of shape (wanted, length, inputs)."""
    outcome: Outcome

    @classmethod
    def of(cls, version: Version, block: WindowBlock) -> Self:
        """Nothing is run yet. ValueError for a block that no gateway made."""
        columns = _columns(block, "<f4" if version.spec.cells == "float32" else "<f8")
        reason = [""] * len(columns.quality)
        for index, why in block.refused:
            reason[index] = why
        wanted = [index for index, why in enumerate(reason) if not why]
        rows = columns.first[wanted][:, None] + np.arange(block.length)
        return cls(version, block, columns, reason, wanted, columns.cells[rows], Outcome([]))

    @property
    def kind(self) -> tuple[object, ...]:
        """Equal for what one call can take."""
        spec = self.version.spec
        outputs = tuple(one.name for one in spec.outputs)
        model = (spec.model_digest, spec.devices, spec.model_input, spec.layout, str(spec.constants), outputs)
        return (*model, self.windows.shape[1:], self.windows.dtype.str)

    def scored(self, sessions: Sessions) -> Scored:
        """With its answers."""
        columns, outcome = self.columns, self.outcome
        quality, reason = columns.quality.astype(int).tolist(), self.reason
        outputs: list[dict[str, Any]] = [{} for _ in quality]
        for index, answer in zip(self.wanted, outcome.answers, strict=True):
            if isinstance(answer, str):
                reason[index], quality[index] = answer, _status(answer)
            else:
                outputs[index] = answer
                if not outcome.passport.trusted and quality[index] >> 30 == 0:
                    quality[index] = UNCERTIFIED
        kept = tuple(index for index in self.wanted if _is_kept(reason[index]))
        return Scored(
            version=self.version,
            block=self.block,
            start_time=columns.start,
            end_time=columns.end,
            sequence=columns.sequence,
            status=quality,
            reason=reason,
            outputs=outputs,
            context=self.block.context,
            digest=[_digest(columns, int(at), self.block.length) for at in columns.first],
            latency_ns=outcome.taken_ns // max(1, len(self.wanted)),
            newest=self.block.newest,
            passport=outcome.passport,
            blanks=sessions.blanks(self.version.spec),
            dead=Dead(reason[kept[0]], kept) if kept else None,
        )


def _status(reason: str) -> int:
    return Status.BAD_OUT_OF_RANGE if reason.startswith(("not_finite", "out_of_range")) else Status.BAD_DATA_UNAVAILABLE


@dataclass(frozen=True, slots=True)
class _Columns:
    cells: NDArray[np.floating[Any]]
    status: NDArray[np.uint32]
    first: NDArray[np.int64]
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    sequence: NDArray[np.int64]
    quality: NDArray[np.uint32]


def _columns(block: WindowBlock, cells: str) -> _Columns:
    shape = (block.rows, block.inputs)
    found = _Columns(
        cells=np.frombuffer(block.block, dtype=cells).reshape(shape),
        status=_statuses(block.status, shape),
        first=np.frombuffer(block.first_row, dtype="<i8"),
        start=np.frombuffer(block.start_time, dtype="<i8"),
        end=np.frombuffer(block.end_time, dtype="<i8"),
        sequence=np.frombuffer(block.sequence, dtype="<i8"),
        quality=np.frombuffer(block.quality, dtype="<u4"),
    )
    n = len(found.sequence)
    same = {len(found.first), len(found.start), len(found.end), len(found.quality), len(block.context) or n} == {n}
    inside = bool(((found.first >= 0) & (found.first + block.length <= block.rows)).all())
    if not (same and inside and block.length > 0 and all(0 <= index < n for index, _ in block.refused)):
        message = f"the windows of version {block.version_id} differ in length or lie outside their block"
        raise ValueError(message)
    return found


def _statuses(raw: bytes, shape: tuple[int, int]) -> NDArray[np.uint32]:
    found = np.frombuffer(raw, dtype="<u4")
    return np.full(shape, found[0]) if len(found) == 1 else found.reshape(shape)


def _digest(columns: _Columns, at: int, length: int) -> str:
    """SHA-256 over the window's values as they travelled, then its uint32 statuses, little-endian, row-major."""
    digest = sha256(columns.cells[at : at + length].tobytes())
    digest.update(columns.status[at : at + length].tobytes())
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of windows that were to be run, one answer each."""

    answers: list[Answer]
    passport: Passport = NOWHERE
    taken_ns: int = 0
    dead: str = ""
    """What the model said when it refused windows as they are."""


def _run(sessions: Sessions, spec: PipelineSpec, windows: NDArray[np.floating[Any]]) -> Outcome:
    """Run them on the version's session; a device that is lost is prepared anew once, then the next of the order."""
    reason = ""
    for _ in range(min(2, len(spec.devices)) + 1):
        ready = sessions.get(spec)
        if isinstance(ready, Failed):
            return Outcome([reason or ready.reason] * len(windows))
        start = time.perf_counter_ns()
        try:
            answers, dead = attempt(ready, spec, windows)
        except DeviceLostError as error:
            sessions.lose(spec, ready, str(error))
            reason = f"device_lost: {error}"
            continue
        return Outcome(answers, ready.passport, time.perf_counter_ns() - start, dead)
    return Outcome([reason] * len(windows))


def attempt(ready: Ready, spec: PipelineSpec, windows: NDArray[np.floating[Any]]) -> tuple[list[Answer], str]:
    """An answer per window, and what the model said if it refused any. Raises DeviceLostError."""
    fed, usable = feed(spec, ready.model, windows)
    answers: list[Answer] = ["out_of_range"] * len(windows)
    places = np.flatnonzero(usable)
    if not len(places):
        return answers, ""
    fed = fed if usable.all() else fed[places]
    dead = ""
    try:
        found: list[Answer] = [*_together(ready, spec, fed)]
    except InputError:
        # A model without a true batch takes them one at a time; and one bad window must not refuse the others.
        found = [_alone(ready, spec, fed[index : index + 1]) for index in range(len(fed))]
        dead = next((one for one in found if isinstance(one, str)), "")
    for place, answer in zip(places.tolist(), found, strict=True):
        answers[place] = _finite_or_why(answer)
    return answers, dead


def _alone(ready: Ready, spec: PipelineSpec, fed: NDArray[Any]) -> Answer:
    try:
        return _together(ready, spec, fed)[0]
    except InputError as error:
        return f"input_refused: {error}"


def _together(ready: Ready, spec: PipelineSpec, fed: NDArray[Any]) -> list[dict[str, Any]]:
    """Raises InputError when the model does not take the windows, or does not answer each of them."""
    found = ready.session.run({spec.model_input: fed, **constants(spec, ready.model, len(fed))})
    return _answers(spec, found, len(fed))


def answered(spec: PipelineSpec, found: Mapping[str, Any]) -> Answer:
    """What a session has answered to one window. Raises InputError where that is not an answer."""
    return _finite_or_why(_answers(spec, found, 1)[0])


def _answers(spec: PipelineSpec, found: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    missing = [one.name for one in spec.outputs if one.name not in found]
    if missing:
        message = f"the model has no output {', '.join(missing)}"
        raise InputError(message)
    rows = {one.name: _rows(one.name, found[one.name], count) for one in spec.outputs}
    return [{name: plain(column[index]) for name, column in rows.items()} for index in range(count)]


def _rows(name: str, output: NDArray[Any], count: int) -> Any:  # noqa: ANN401 - something that holds one value a window
    if output.ndim and len(output) == count:
        return output
    if count == 1:
        return [output]
    message = f"output {name} has shape {list(output.shape)} for {count} windows"
    raise InputError(message)


def plain(value: Any) -> Any:  # noqa: ANN401 - whatever a model answers with
    """As JSON holds it; an array of one is that one."""
    if isinstance(value, np.ndarray):
        return plain(value.reshape(-1)[0]) if value.size == 1 else value.tolist()
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    return value.item() if isinstance(value, np.generic) else value


def _finite_or_why(answer: Answer) -> Answer:
    if isinstance(answer, str):
        return answer
    bad = next((name for name, value in answer.items() if not finite(value)), None)
    return answer if bad is None else f"not_finite:{bad}"


def finite(value: Any) -> bool:  # noqa: ANN401 - whatever a model answers with
    """Whether no number in it is NaN or infinite."""
    if isinstance(value, float):
        return value - value == 0.0
    if isinstance(value, list):
        return all(finite(item) for item in value)
    return all(finite(item) for item in value.values()) if isinstance(value, dict) else True
