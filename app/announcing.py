"""A worker's thread that says which devices its host has now; `python -m app.announcing` is the look at them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Final

import msgspec

from app import engines, lives, times
from app.errors import QueueError
from app.log import DEVICES_CHANGED, DEVICES_UNKNOWN, get_logger
from app.queue import DEFAULT_QUEUE, queue_of
from app.settings import settings
from app.workers import LOST, MOST_DEVICES, PREFIX, TTL_S, Devices, WorkerLive, lost_by
from inference import engines as processes
from inference.devices import devices as all_devices

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.queue import Door

_log = get_logger(__name__)

RENEW_S: Final = 2.0
LOOK_S: Final = 180
"""A look at the devices that takes longer is ended: runtimes of makers may hang."""
AGAIN_S: Final = 600.0
"""How often devices are looked for that were not there. One that is lost is told at once, by whoever lost it."""
SOON_S: Final = 30.0
"""How soon after a look there is another one, where one was lost or is back meanwhile."""
_found = msgspec.json.Decoder(Devices)


class Look:
    """A child process that looks: what loads foreign libraries may crash or hang."""

    def __init__(self) -> None:
        """It is started."""
        self._began = time.monotonic()
        self._child = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-m", __name__], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def over(self) -> bool:
        """Whether it has ended; it is, when it takes too long."""
        if time.monotonic() - self._began > LOOK_S:
            self._child.kill()
            self._child.wait()
        return self._child.poll() is not None

    def found(self) -> tuple[str, ...]:
        """Ids of the devices, once it is over. ValueError, with what it said, where it did not find out."""
        said, _ = self._child.communicate()
        if self._child.returncode:
            message = f"the look at the devices ended with {self._child.returncode}"
            raise ValueError(message)
        return _found.decode(said)

    def end(self) -> None:
        """It is gone, whatever it has found."""
        self._child.kill()
        self._child.communicate()


class Announcer:
    """Says what this worker has. `turn` is the whole of it; the thread repeats it."""

    def __init__(self, door: Callable[[], Door], fixed: str | None, look: Callable[[], Look] = Look) -> None:
        """Nothing is started yet. `fixed`: the only queue, whatever devices there are. `look`: starts one."""
        self._door, self._fixed, self._look = door, fixed, look
        self._looking: Look | None = None
        self._looked = float("-inf")
        self._here: tuple[str, ...] | None = None
        self._lost: set[str] = set()
        self._unsure = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._repeat, name="announcer", daemon=True)
        self.serving: frozenset[str] = frozenset()
        """The queues that the worker takes from now; kept up to date by its own loop."""

    @property
    def wanted(self) -> frozenset[str]:
        """The queues that it should take from, but for those of every worker's own business."""
        if self._fixed is not None:
            return frozenset((self._fixed,))
        return frozenset((DEFAULT_QUEUE, *map(queue_of, self.usable)))

    @property
    def usable(self) -> tuple[str, ...]:
        """Ids of the devices that are here and not lost."""
        return tuple(one for one in self._here or () if one not in self._lost)

    def start(self) -> None:
        """Again and again, until `stop`."""
        self._thread.start()

    def stop(self) -> None:
        """Say no more, and take back what was said: work goes elsewhere at once."""
        self._over.set()

    def _repeat(self) -> None:
        while not self._over.is_set():
            self.turn()
            self._over.wait(RENEW_S)
        if self._looking is not None:
            self._looking.end()
        try:
            self._door().drop_live(self._key)
        except QueueError:
            return

    @property
    def _key(self) -> str:
        return f"{PREFIX}{lives.me()}"

    def turn(self) -> None:
        """Once: look, where it is time; say what is here. Redis may be away: it is said again."""
        try:
            self._mark_lost(lost_by(self._door().read_live(f"{LOST}{lives.me()}:")))
            self._find()
            if self._here is not None:
                self._door().put_live(self._key, msgspec.json.encode(self._said(self._here)), TTL_S)
        except QueueError:
            return

    def _mark_lost(self, lost: set[str]) -> None:
        self._unsure |= lost != self._lost
        self._lost = lost

    def _find(self) -> None:
        now = time.monotonic()
        if self._looking is None and now - self._looked < (SOON_S if self._unsure else AGAIN_S):
            return
        try:
            if self._looking is None:
                self._looked, self._unsure = now, False
                self._looking = self._look()
            if not self._looking.over():
                return
            self._looked, looking, self._looking = now, self._looking, None
            found = looking.found()
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            _log.warning(DEVICES_UNKNOWN, reason=str(error))
            found, self._unsure = self._here or (), True
        if found != self._here:
            _log.info(DEVICES_CHANGED, devices=list(found))
        self._here = found

    def _said(self, here: tuple[str, ...]) -> WorkerLive:
        """What is not taken from is not offered, so that no message waits there for nobody."""
        first = {one.partition(":")[0]: one for one in reversed(here)}
        return WorkerLive(
            id=lives.me(),
            host=socket.gethostname()[:255],
            pid=os.getpid(),
            at=times.now(),
            devices=self.usable,
            classes=tuple(vendor for vendor, one in sorted(first.items()) if one not in self._lost),
            lost=tuple(one for one in here if one in self._lost),
            queues=tuple(sorted(self.wanted & self.serving)),
        )


def main() -> None:
    """Look, and say the ids of the devices as JSON. What runtimes print meanwhile goes elsewhere."""
    signal.alarm(LOOK_S)
    said = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    engines.use(settings())
    try:
        found, _ = all_devices()
    finally:
        processes.stop()
    os.write(said, msgspec.json.encode([one.id for one in found[:MOST_DEVICES]]))


if __name__ == "__main__":
    main()
