"""A worker's thread beside its work: checks what nobody has checked, and gives work back to a device well again."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from app.certificates import queries, service
from app.certificates.schemas import SYSTEM
from app.db import UnreachableError
from app.log import CERTIFIED, DATABASE_LOST, NOT_CERTIFIED, get_logger
from inference.certify import examine
from inference.devices import entry

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine

    from app.certificates.schemas import Occasion
    from app.certificates.tables import CertificateRow
    from app.sessions import Key, Ready, Sessions
    from inference.certify import Examined, Request

_log = get_logger(__name__)

EVERY_S: Final = 10.0
WELL_S: Final = 60.0
"""A device has to pass its check twice, this far apart, before work goes back to it."""
LONGEST_S: Final = 3600.0
"""The longest wait for one that was lost again and again: it doubles with each loss within the last hour."""
ABSENT_S: Final = 600.0
"""The longest wait between two looks at one that is not there: it doubles from a minute."""


@dataclass(slots=True)
class _Watched:
    """A device that should have the work and has not."""

    next_look: float
    wait_s: float = WELL_S
    well_since: float | None = None


class Keeper:
    """What one worker process looks after besides its messages. `look` is the whole of it; the thread repeats it."""

    def __init__(
        self,
        engine: Engine,
        sessions: Sessions,
        clock: Callable[[], float] = time.monotonic,
        check: Callable[[Request], Examined] = examine,
    ) -> None:
        """Nothing is started yet. `clock`: monotonic seconds. `check`: the activation check."""
        self._engine, self._sessions, self._clock, self._check = engine, sessions, clock, check
        self._asked: set[Key] = set()
        self._watched: dict[tuple[Key, str], _Watched] = {}
        self._compiled: set[tuple[Key, str]] = set()
        """For which a model was compiled, and passed its check."""
        self._over = threading.Event()

    def start(self) -> None:
        """Look again and again until the process ends, or `stop`."""
        threading.Thread(target=self._repeat, name="certificates", daemon=True).start()

    def stop(self) -> None:
        """Look no more."""
        self._over.set()

    def _repeat(self) -> None:
        while not self._over.wait(EVERY_S):
            try:
                self.look()
            except UnreachableError as error:
                _log.warning(DATABASE_LOST, reason=str(error.orig))

    def look(self) -> None:
        """Once at every session."""
        for key, device in sorted(self._sessions.uncompiled.copy(), key=lambda one: one[0][1].index(one[1])):
            self._sessions.uncompiled.discard((key, device))
            self._compile(key, device)
        held = self._sessions.held()
        for key, ready in held.items():
            standing = ready.passport.standing
            if standing is not None and standing.state == "unchecked" and key not in self._asked:
                self._check_all(key, ready.passport.device)
                self._asked.add(key)
            for device in _before(key, ready):
                self._return(key, device)
        wanted = {(key, device) for key, ready in held.items() for device in _before(key, ready)}
        self._watched = {one: how for one, how in self._watched.items() if one in wanted}
        self._tell({entry(device)[0] for _, device in wanted})

    def _tell(self, watched: set[str]) -> None:
        """Say again what is lost; a device that no session waits for is tried again by the next work for it."""
        for device in self._sessions.lost.copy():
            lost_at = max(self._sessions.losses.get(device, [0.0]))
            if not watched & {device, device.partition(":")[0]} and self._clock() - lost_at > WELL_S:
                self._sessions.found(device)
        if self._sessions.lost:
            self._sessions.told(self._sessions.lost.copy())

    def _check_all(self, key: Key, used: str) -> None:
        """What was in force before there were certificates, or came to a device that was not here at its activation.

        The device in use comes first, since its answers wait for it.
        """
        model, order = key
        for device in sorted(order, key=lambda one: entry(one)[0] not in {used, used.partition(":")[0]}):
            self._certify(service.request(self._sessions.store, model, device), "unchecked")

    def _certify(self, asked: Request, occasion: Occasion) -> CertificateRow:
        row = service.certify(self._engine, asked, SYSTEM, occasion, self._check)
        told = {"model": row.model_digest, "device": row.device, "certificate": row.id}
        if row.passed:
            _log.info(CERTIFIED, **told)
        else:
            _log.warning(NOT_CERTIFIED, **told, outcome=row.outcome, reason=service.reason(row)["en"])
        return row

    def _compile(self, key: Key, device: str) -> None:
        """In the child that checks it; with what the compiler made the session is ready at once, and takes the work."""
        if (key, device) in self._compiled:
            self._sessions.unkept.add(key)
            self._sessions.take_back(key, entry(device)[0])
            return
        row = self._certify(service.request(self._sessions.store, key[0], device), "compile")
        if row.passed:
            self._compiled.add((key, device))
            self._sessions.take_back(key, row.device)

    def _return(self, key: Key, device: str) -> None:
        now, known = self._clock(), self._watched.get((key, device))
        if known is None:
            known = self._watched[key, device] = _Watched(now + self._wait(device))
        if now < known.next_look or not self._may(key[0], device):
            return
        asked = service.request(self._sessions.store, key[0], device)
        if known.well_since is None:
            self._first(known, self._check(asked).outcome == "passed")
            return
        row = self._certify(asked, "return")
        if row.passed:
            del self._watched[key, device]
            self._sessions.take_back(key, row.device)
        else:
            known.well_since, known.next_look = None, now + self._wait(device)

    def _first(self, known: _Watched, passed: bool) -> None:  # noqa: FBT001 - what was found
        """The first of two looks; nothing is written down of a device that is simply not there."""
        now = self._clock()
        if passed:
            known.well_since, known.wait_s, known.next_look = now, WELL_S, now + WELL_S
        else:
            known.wait_s = min(2 * known.wait_s, ABSENT_S)
            known.next_look = now + known.wait_s

    def _may(self, model: str, device: str) -> bool:
        """Not where the newest check says that the device computes wrongly or does not take the model: ask a person."""
        newest = queries.newest(self._engine, model, *entry(device))
        return newest is None or newest.passed

    def _wait(self, device: str) -> float:
        """A minute, doubled with each loss within the last hour but the first."""
        losses = self._sessions.losses.copy().items()
        mine = [at for one, times in losses if entry(device)[0] in {one, one.partition(":")[0]} for at in times]
        recent = sum(at > self._clock() - LONGEST_S for at in mine)
        return float(min(WELL_S * 2 ** max(0, recent - 1), LONGEST_S))


def _before(key: Key, ready: Ready) -> list[str]:
    """Devices of the order before the one in use."""
    order, device = key[1], ready.passport.device
    found: list[str] = []
    for wanted in order:
        name, computed = entry(wanted)
        if name in {device, device.partition(":")[0]} and computed == ready.passport.precision:
            return found
        found.append(wanted)
    return found
