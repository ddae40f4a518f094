"""Micro-batching: what many callers ask of one session at a time becomes one run, and is cut apart again.

A session has one thread of its own, which prepares it, warms it up and runs it. An idle session runs a request at once;
while a run is under way others gather, and as many rows as have gathered go into the next. Nobody waits for a timer.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Final

from inference import DeviceLostError, InferenceError
from inference.joining import WARM_ROWS, Outcome, Request, joinable, outcomes, warm

if TYPE_CHECKING:
    from inference import Model, Session
    from inference.joining import Feeds, Outputs, Then

Settle = Callable[[Callable[[], None]], object]
SMOOTHING: Final = 0.25
"""Share of the newest run in what is expected of the next."""


class BusyError(InferenceError):
    """More waits for this session than may. Nothing was computed: come again after `retry_after_s`."""

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        """What the queue holds, and when there may be room."""
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Priority(IntEnum):
    """Who goes first where several wait for one session."""

    PIPELINE = 0
    CALLER = 1


@dataclass(frozen=True, slots=True)
class Pace:
    """How much goes into one run, and how much may wait."""

    rows: int = 1024
    """In one run; a single request with more is run by itself."""
    budget_s: float = 0.02
    """No run is made longer than this by joining, as far as those before it tell."""
    waiting: int = 1024
    """Requests in the queue; the next one is refused."""
    waiting_rows: int = 65536
    """Rows in the queue. An empty queue takes any request."""
    aside_s: float = 0.0
    """A run that is expected to take less is run by whoever calls `turn`: waking a thread costs more."""
    patience_s: float = 30.0
    """A request that has waited for longer is refused: whoever sent it has gone."""


@dataclass(slots=True)
class Figures:
    """What a session has done since it was made ready."""

    requests: int = 0
    rows: int = 0
    runs: int = 0
    refused: int = 0
    """Because the queue was full, or they waited for too long."""
    busy_s: float = 0.0


def _at_once(settle: Callable[[], None]) -> None:
    settle()


class Microbatcher:
    """One session and its thread. Any thread may hand requests in."""

    def __init__(
        self, model: Model, prepare: Callable[[], Session], pace: Pace | None = None, settle: Settle = _at_once
    ) -> None:
        """Begin to prepare, on a thread of its own; there `settle` is called once a run, with what tells the callers.

        An event loop's `call_soon_threadsafe` lets them be told on the loop.
        """
        self.model, self.pace, self.figures = model, pace or Pace(), Figures()
        self.ready: Future[bool] = Future()
        """Whether requests are joined; or what the preparation raised."""
        self._prepare, self._settle = prepare, settle
        self._lock, self._bell = threading.Lock(), threading.Lock()
        self._bell.acquire()
        self._queues: tuple[deque[Request], deque[Request]] = (deque(), deque())
        self._waiting_rows = 0
        self._asleep = False
        self._ended: InferenceError | None = None
        self._joined = False
        self._row_s = self._run_s = 0.0
        self._session: Session | None = None
        self._thread = threading.Thread(target=self._live, name=f"session {model.name}", daemon=True)
        self._thread.start()

    def submit(
        self, feeds: Feeds, then: Then, priority: Priority = Priority.CALLER, *, wake: bool = True
    ) -> None:
        """Queue a request; `then` is told its outputs or the error. The arrays must not change until then.

        With `wake` false a session that sleeps goes on sleeping until `wake_up`: an event loop hands in all that came
        in one round, and wakes it once. Raises BusyError when the queue is full, DeviceLostError once it has ended.
        """
        kind, rows = self._kind(feeds)
        request = Request(feeds, rows, kind, time.monotonic(), then)
        with self._lock:
            if self._ended is not None:
                raise self._ended
            waiting = len(self._queues[0]) + len(self._queues[1])
            if waiting and (waiting >= self.pace.waiting or self._waiting_rows + rows > self.pace.waiting_rows):
                self.figures.refused += 1
                message = f"{waiting} requests with {self._waiting_rows} rows wait for {self.model.name}: come again"
                raise BusyError(message, max(0.1, min(self._waiting_rows * self._row_s, 60.0)))
            self._queues[priority].append(request)
            self._waiting_rows += rows
        if wake:
            self.wake_up()

    def wake_up(self) -> None:
        """Let the session look at its queue."""
        with self._lock:
            asleep, self._asleep = self._asleep, False
        if asleep:
            self._bell.release()

    def turn(self) -> None:
        """Run what waits on this thread, where that is expected to be short and no run is under way; else wake up.

        Its callers are then told before it returns; what ends the session is told to them, not raised.
        """
        with self._lock:
            session = self._session
            mine = self._asleep and session is not None and 0.0 < self._run_s < self.pace.aside_s
            requests = self._taken() if mine else []
            if requests:
                self._asleep = False
        if not requests or session is None:
            self.wake_up()
            return
        try:
            self._answer(session, requests, _at_once)
        except DeviceLostError as error:
            self._end(error)
        except BaseException as error:
            self._end(self._broken(error))
            raise
        finally:
            with self._lock:
                # The thread still waits for the bell; it is rung for what has come in the meantime.
                self._asleep = True
                idle = self._ended is None and not self.waiting
            if not idle:
                self.wake_up()

    def run(self, feeds: Feeds, priority: Priority = Priority.PIPELINE) -> Outputs:
        """Queue a request and wait for its outputs. Raises what the run raises, and BusyError."""
        told: Future[Outcome] = Future()
        self.submit(feeds, told.set_result, priority)
        outcome = told.result()
        if isinstance(outcome, InferenceError):
            raise outcome
        return outcome

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._queues[0]) + len(self._queues[1])

    @property
    def idle(self) -> bool:
        """Whether nothing is run and nobody was woken for it."""
        return self._asleep

    def close(self) -> None:
        """End the session. Those who still wait are told DeviceLostError. Safe to call twice."""
        self._end(DeviceLostError(f"the session of {self.model.name} was closed: ask again"))

    def join(self, within_s: float) -> None:
        """Wait for the session's thread after `close`."""
        self._thread.join(within_s)

    def _kind(self, feeds: Feeds) -> tuple[tuple[object, ...] | None, int]:
        """What a request may be joined with, and its rows; one that does not suit the model is run by itself."""
        if not self._joined:
            return None, 1
        parts: list[object] = []
        counts = set()
        for name, value in feeds.items():
            shape = value.shape
            if not shape or not shape[0]:
                return None, 1
            counts.add(shape[0])
            parts += (name, shape[1:], value.dtype)
        return (tuple(parts), counts.pop()) if len(counts) == 1 else (None, 1)

    def _end(self, why: InferenceError) -> None:
        with self._lock:
            self._ended = self._ended or why
        self.wake_up()

    def _broken(self, error: BaseException) -> DeviceLostError:
        return DeviceLostError(f"the session of {self.model.name} failed: {type(error).__name__}: {error}")

    def _live(self) -> None:
        """The thread: prepare, then run what waits until the session has ended."""
        try:
            session = self._prepared()
            while requests := self._next():
                self._answer(session, requests, self._settle)
        except InferenceError as error:
            self._end(error)
        except BaseException as error:
            self._end(self._broken(error))
            raise
        finally:
            self._refuse_all()
            if self._session is not None:
                self._session.close()

    def _prepared(self) -> Session:
        try:
            session = self._session = self._prepare()
            self._joined = joinable(session, self.model)
            warm(session, self.model, min(WARM_ROWS, self.pace.rows) if self._joined else 1)
        except BaseException as error:
            self.ready.set_exception(error)
            raise
        self.ready.set_result(self._joined)
        return session

    def _next(self) -> list[Request]:
        """The requests of the next run, as soon as there is one; none when the session has ended."""
        while True:
            with self._lock:
                if self._ended is not None:
                    return []
                if taken := self._taken():
                    return taken
                self._asleep = True
            self._bell.acquire()

    def _taken(self) -> list[Request]:
        """The oldest of the highest priority, and those behind it that fit into the same run."""
        most = self._most()
        taken: list[Request] = []
        rows = 0
        for queue in self._queues:
            while queue:
                one = queue[0]
                if taken and (one.kind is None or one.kind != taken[0].kind or rows + one.rows > most):
                    break
                taken.append(queue.popleft())
                rows += one.rows
        self._waiting_rows -= rows
        return taken

    def _most(self) -> int:
        """Rows that the budget allows; one request is always run."""
        return self.pace.rows if not self._row_s else min(self.pace.rows, int(self.pace.budget_s / self._row_s))

    def _answer(self, session: Session, requests: list[Request], settle: Settle) -> None:
        """Run them and let their callers be told. Raises DeviceLostError, or what nobody expected, after they were."""
        began = time.monotonic()
        fresh = [one for one in requests if began - one.since <= self.pace.patience_s]
        try:
            if fresh:
                outcomes(session, fresh)
        except BaseException as error:
            lost = error if isinstance(error, DeviceLostError) else self._broken(error)
            for one in fresh:
                one.outcome = one.outcome or lost
            raise
        finally:
            self._count(requests, fresh, time.monotonic() - began)
            settle(partial(_tell, requests))

    def _count(self, requests: Sequence[Request], fresh: Sequence[Request], taken_s: float) -> None:
        for one in requests:
            if one.outcome is None:
                one.outcome = BusyError(f"it waited for more than {self.pace.patience_s:g} s: come again")
        rows = sum(one.rows for one in fresh)
        figures = self.figures
        figures.refused += len(requests) - len(fresh)
        if fresh:
            figures.requests += len(fresh)
            figures.rows += rows
            figures.runs += 1
            figures.busy_s += taken_s
            share = SMOOTHING if self._run_s else 1.0
            self._run_s += (taken_s - self._run_s) * share
            self._row_s += (taken_s / rows - self._row_s) * share

    def _refuse_all(self) -> None:
        """Tell those who wait why nobody will run their requests."""
        with self._lock:
            left = [*chain(*self._queues)]
            for queue in self._queues:
                queue.clear()
            self._waiting_rows = 0
        for one in left:
            one.outcome = self._ended
        if left:
            self._settle(partial(_tell, left))


def _tell(requests: Sequence[Request]) -> None:
    for one in requests:
        if one.outcome is not None:
            one.then(one.outcome)
