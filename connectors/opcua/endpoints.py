"""Several ways to one plant: endpoints in their order, each tried once, and what each refused remembered."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from connectors import ConnectorError, NotConnectedError, RefusedError
from connectors.opcua.border import LogInRefusedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from connectors.opcua.options import Options
    from connectors.opcua.security import Keys, Mark

LOOK_AGAIN_S: Final = 30.0
"""A peer that refuses is looked at again so often: its engineer may have accepted our certificate meanwhile."""
LONGEST_REASON: Final = 200
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Refused:
    """What was so when a peer, or we, refused."""

    error: RefusedError
    mark: Mark
    at: float
    """Monotonic, s."""

    def worth_a_try(self, mark: Mark, now: float) -> bool:
        """A user is tried again only when something has changed here: more tries may lock the account."""
        log_in = isinstance(self.error, LogInRefusedError)
        return mark != self.mark or (not log_in and now - self.at >= LOOK_AGAIN_S)


class Endpoints:
    """Of one connection: `url` and `more_urls`, with the same security and the same user."""

    def __init__(self, options: Options, keys: Keys) -> None:
        """Nothing is opened yet."""
        urls = (options.url, *options.more_urls)
        self._all = [options.model_copy(update={"url": url, "more_urls": ()}) for url in urls]
        self._keys = keys
        self._refused: dict[str, Refused] = {}
        self._passed_over: Mapping[str, ConnectorError] = {}
        self.in_use = self._all[0]
        """The one connected to, or tried last."""

    async def first(self, attempt: Callable[[Options], Awaitable[Answer]]) -> Answer:
        """What comes of the first endpoint, from the top, that lets us in; each is tried once.

        RefusedError when all refuse; NotConnectedError when waiting may mend one of them.
        """
        passed_over: dict[str, ConnectorError] = {}
        for at in self._all:
            self.in_use, url = at, at.url
            held = self._refused.get(url)
            if held is not None and len(self._all) > 1 and not held.worth_a_try(self._keys.mark(), time.monotonic()):
                passed_over[url] = held.error
                continue
            self._refused.pop(url, None)
            try:
                found = await attempt(at)
            except RefusedError as error:
                self._refused[url] = Refused(error, self._keys.mark(), time.monotonic())
                passed_over[url] = error
            except NotConnectedError as error:
                passed_over[url] = error
            else:
                self._passed_over = passed_over
                return found
        raise _together(passed_over)

    def notes(self) -> tuple[str, ...]:
        """Which one is in use, where it is not the first."""
        if not self._passed_over:
            return ()
        why = "; ".join(f"{url}: {str(error)[:LONGEST_REASON]}" for url, error in self._passed_over.items())
        return (f"connected to {self.in_use.url}, since not to {why}",)

    def mended(self) -> bool:
        """Whether another try is worth while after all refused: one of them may let us in now."""
        refused = self._refused.values()
        return not refused or any(one.worth_a_try(self._keys.mark(), time.monotonic()) for one in refused)


def _together(errors: Mapping[str, ConnectorError]) -> ConnectorError:
    """One error for all: the only one itself."""
    if len(errors) == 1:
        return next(iter(errors.values()))
    refused = all(isinstance(error, RefusedError) for error in errors.values())
    message = "; ".join(f"{url}: {error}" for url, error in errors.items())
    made = RefusedError(message) if refused else NotConnectedError(message)
    made.__cause__ = next(iter(errors.values()))
    return made
