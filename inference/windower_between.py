"""Windows between two events, the start and the stop of a cycle: the samples of what lies between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from inference.windower_trigger import BAD_UNAVAILABLE, Closed, Count, Trigger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from inference.resample import Readings

NO_STOP: Final = "no_stop"
START, STOP = "+", "-"
"""Which of the two tags a reading is of. What is noted of one is this, 1 or 0 for its being active, and the value."""


def _noted(which: str, value: Count) -> str:
    return f"{which}{int(bool(value))}{value}"


class Between(Trigger):
    """The windower of a `between` spec.

    A tag is active while its value is neither 0 nor empty. A start is a change of the start's tag to an active value, a
    stop one of the stop's tag; without a tag for the stop it is the start's tag that is active no more. A stop closes
    the window over (start, stop]; another start before it refuses the open one (`no_stop`) and begins the next. A stop
    without a start closes nothing. All else is as with `Trigger`.
    """

    def change(self, time: int, value: Count | None) -> None:
        """A reading of the start's tag; one without a usable value changes nothing."""
        super().change(time, None if value is None else _noted(START, value))

    def stop(self, time: int, value: Count | None) -> None:
        """A reading of the stop's tag; one without a usable value changes nothing."""
        super().change(time, None if value is None else _noted(STOP, value))

    def waiting(self) -> tuple[int, ...]:
        """The tags of which no value is known yet: the first one only arms."""
        both = ((START, self._spec.trigger), (STOP, self._spec.stop))
        return tuple(tag for which, tag in both if tag and which not in self._levels)

    def _advance(self, time: int, value: Count) -> tuple[int, Count] | None:
        noted = str(value)
        self._pass(time, noted)
        known, self._levels[noted[0]] = self._levels.get(noted[0]), noted
        event = self._event(noted)
        if known in {None, noted} or not event:
            return None
        last, self._last = self._last, (time, event)
        if last is None:
            self._end = time
        return last if last is not None and last[1] == START else None

    def _event(self, noted: str) -> str:
        """Whether it starts or stops a cycle, or neither."""
        which, active = noted[0], noted[1] == "1"
        if active:
            return which
        return STOP if which == START and not self._spec.stop else ""

    def _cut(self, samples: Readings, last: tuple[int, Count], now: tuple[int, Count]) -> Iterator[Closed]:
        if self._event(str(now[1])) == STOP:
            yield self._window(samples, last[0], now[0])
            return
        self._end = max(now[0], self._end + 1)
        yield Closed(last[0], self._end, f"{NO_STOP}:{self._spec.stop or self._spec.trigger}", BAD_UNAVAILABLE)
