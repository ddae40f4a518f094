"""Whether a model that callers ask runs on a device: by its certificate, a check that is made now, or an override."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from app.certificates import queries, service
from app.certificates.schemas import SYSTEM, Subject
from app.db import UnreachableError
from app.log import CERTIFIED, DATABASE_LOST, NOT_CERTIFIED, get_logger
from inference import UnsupportedModelError
from inference.certify import examine
from inference.chip import Text
from inference.devices import Choice, Refused, choose, entry, named, precision

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from sqlalchemy import Engine

    from app.certificates.schemas import Standing
    from inference import Model, Options
    from inference.certify import Examined, Request

_log = get_logger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Order:
    """An order of devices as certificates leave it."""

    whole: tuple[str, ...]
    """As the operator wrote it."""
    open: tuple[str, ...] = ()
    """Entries that may be taken."""
    pending: tuple[str, ...] = ()
    """Entries before those, which have to be checked first."""
    later: tuple[str, ...] = ()
    """Entries behind one that may be taken, which nobody has checked yet."""
    refusals: tuple[Refused, ...] = ()
    """Those that are absent, or did not pass."""

    def chosen(self, model: Model, options: Options) -> Choice:
        """The first that may be taken and takes the model. Raises UnsupportedModelError with every reason."""
        if not self.open:
            reasons = "; ".join(f"{one.device}: {one.reason}" for one in self.refusals)
            message = f"no device of the order may run {model.name}: {reasons}"
            raise UnsupportedModelError(message)
        made = choose(self.open, model, options)
        refused = {one.device for one in made.refusals}
        taken = next(one for one in self.open if one not in refused)
        before = self.whole[:self.whole.index(taken)]
        found = {one.device: one for one in (*self.refusals, *made.refusals)}
        return Choice(made.session, made.device, tuple(found[one] for one in before if one in found))


@dataclass(frozen=True, slots=True)
class Admission:
    """The gate of one process. Its calls take their time: on threads."""

    engine: Engine
    store: Path
    overrides: Mapping[str, str] = field(default_factory=dict)
    """Model name to why it is run without a certificate."""
    examined: Callable[[Request], Examined] = examine
    """The activation check."""

    def order(self, name: str, model: str, devices: tuple[str, ...]) -> Order:
        """Which entries may be taken now. `model`: its digest."""
        if name in self.overrides:
            return Order(devices, open=devices)
        taken: list[str] = []
        pending: list[str] = []
        later: list[str] = []
        refusals: list[Refused] = []
        for wanted in devices:
            found = self._stands(model, wanted)
            if isinstance(found, Refused):
                refusals.append(found)
            elif found:
                taken.append(wanted)
            else:
                (later if taken else pending).append(wanted)
        return Order(devices, tuple(taken), tuple(pending), tuple(later), tuple(refusals))

    def _stands(self, model: str, wanted: str) -> bool | Refused:
        """Whether a device has its certificate; why it will not get one by being checked again."""
        name, computed = entry(wanted)
        device = named(name)
        if isinstance(device, Text):
            return Refused(wanted, device.en)
        subject = Subject.of(model, device, computed)
        newest = queries.newest(self.engine, model, device.id, computed)
        if queries.standing(self.engine, subject).state == "valid":
            return True
        if newest is None or newest.passed or (newest.backend, newest.driver) != (subject.backend, subject.driver):
            return False
        again = f"headrace certify --model {model} --device {wanted}"
        return Refused(wanted, f"its check did not pass: {service.reason(newest)['en']} (once mended: {again})")

    def check(self, model: str, wanted: str) -> bool:
        """The activation check, in a child, written down. Whether it passed."""
        asked = service.request(self.store, model, wanted)
        row = service.certify(self.engine, asked, SYSTEM, "serve", self.examined)
        told = {"model": row.model_digest, "device": row.device, "certificate": row.id}
        if row.passed:
            _log.info(CERTIFIED, **told)
        else:
            _log.warning(NOT_CERTIFIED, **told, outcome=row.outcome, reason=service.reason(row)["en"])
        return row.passed

    async def checked(self, name: str, model: str, devices: tuple[str, ...], begins: Callable[[str], None]) -> Order:
        """Have devices checked, in their order, until one may be taken; `begins` is told which. Others may be pending.

        Those are entries whose check has said nothing of them: the child found no such device.
        """
        tried: set[str] = set()
        while True:
            found = await asyncio.to_thread(self.order, name, model, devices)
            wanted = next((one for one in found.pending if one not in tried), None)
            if wanted is None:
                return found
            begins(wanted)
            tried.add(wanted)
            await apart(partial(self.check, model, wanted))

    async def rest(self, model: str, order: Order) -> None:
        """Have the devices checked that would be taken next: when one is lost, nobody waits for that."""
        try:
            for wanted in order.later:
                await apart(partial(self.check, model, wanted))
        except UnreachableError as error:
            _log.warning(DATABASE_LOST, reason=str(error.orig))

    def taken(self, name: str, model: str, devices: tuple[str, ...], choice: Choice) -> Subject:
        """What the session on the chosen device is; an override that it needs is noted in the audit log."""
        subject = Subject.of(model, choice.device, precision(devices, choice.refusals))
        why = self.overrides.get(name)
        if why is not None:
            state = queries.standing(self.engine, subject).state
            service.served_anyway(self.engine, SYSTEM, model, {"model": name, "device": subject.device,
                                                               "reason": why, "state": state})  # fmt: skip
        return subject

    def standing(self, subject: Subject) -> Standing:
        """How a session in use stands, with the driver and runtime that its device has now."""
        device = named(subject.device)
        if not isinstance(device, Text):
            subject = Subject.of(subject.model, device, subject.precision)
        return queries.standing(self.engine, subject)


async def apart(work: Callable[[], T]) -> T:
    """On a thread that nobody waits for at the end of the process: a check may take minutes."""
    loop = asyncio.get_running_loop()
    told: asyncio.Future[T] = loop.create_future()

    def settle(how: Callable[[], None]) -> None:
        # The loop may have ended meanwhile: then nobody waits.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(lambda: None if told.done() else how())

    def run() -> None:
        try:
            found = work()
        except UnreachableError as error:
            away = error
            settle(lambda: told.set_exception(away))
        except BaseException as error:
            failed = error
            settle(lambda: told.set_exception(failed))
            raise
        else:
            settle(lambda: told.set_result(found))

    threading.Thread(target=run, name="check of a model", daemon=True).start()
    return await told
