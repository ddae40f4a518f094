"""Windows that may end a process: run in an engine of their own, and halved until the one that ends it is alone."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from app.inferring import Outcome, attempt, score
from app.log import ENGINE_KILLED, get_logger
from app.sessions import Failed, Sessions
from inference import DeviceLostError
from inference.engines import Apart

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Self

    import numpy as np
    from numpy.typing import NDArray

    from app.inferring import Scored
    from app.pipelines.schemas import PipelineSpec
    from app.pipelines.service import Version
    from app.records import WindowBlock

_log = get_logger(__name__)

MOST_DEATHS: Final = 40
"""Of the engines of one message: enough for two windows among a thousand; beyond that it is not the windows."""
MOST_S: Final = 600.0
"""Windows that hang cost an engine's time-out each; all of it must end within a task's time limit (`app.queue`)."""


class Prober:
    """Runs windows where a death is an error; use it as a context, its engines end with it."""

    def __init__(self, store: Path, most_deaths: int = MOST_DEATHS, most_s: float = MOST_S) -> None:
        """`store`: the models by digest. Nothing is started yet."""
        self._most_deaths = most_deaths
        self._end = time.monotonic() + most_s
        self._apart = Apart()
        self._sessions = Sessions(store, self._apart.backend)
        self._deaths = 0

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Its engines are gone."""
        self._sessions.drop_all()
        self._apart.stop()

    def score(self, blocks: Sequence[tuple[Version, WindowBlock]]) -> list[Scored]:
        """Every window has an answer or a reason; `killed_worker` is that of one that ended its engine by itself."""
        return [score(self._sessions, version, block, self._run) for version, block in blocks]

    def _run(self, sessions: Sessions, spec: PipelineSpec, windows: NDArray[np.floating[Any]]) -> Outcome:
        if self._deaths >= self._most_deaths or time.monotonic() >= self._end:
            return Outcome([f"killed_worker: {self._deaths} engines have died; the rest was not run"] * len(windows))
        ready = sessions.get(spec)
        if isinstance(ready, Failed):
            return Outcome([ready.reason] * len(windows))
        try:
            answers, dead = attempt(ready, spec, windows)
        except DeviceLostError as error:
            self._bury(sessions, spec, len(windows), error)
            return self._halved(sessions, spec, windows, str(error))
        return Outcome(answers, ready.passport, dead=dead)

    def _bury(self, sessions: Sessions, spec: PipelineSpec, windows: int, error: DeviceLostError) -> None:
        _log.warning(ENGINE_KILLED, pipeline=spec.name, windows=windows, reason=str(error))
        self._deaths += 1
        sessions.drop(spec)
        self._apart.stop()

    def _halved(
        self, sessions: Sessions, spec: PipelineSpec, windows: NDArray[np.floating[Any]], said: str
    ) -> Outcome:
        if len(windows) == 1:
            return Outcome([f"killed_worker: {said}"])
        middle = len(windows) // 2
        first, second = (self._run(sessions, spec, part) for part in (windows[:middle], windows[middle:]))
        passport = max(first.passport, second.passport, key=lambda one: one.device)
        return Outcome([*first.answers, *second.answers], passport, dead=first.dead or second.dead)
