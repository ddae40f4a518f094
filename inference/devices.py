"""Which devices there are, and the choice of one for a model in a pipeline's declared order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from inference import (
    Absent,
    BackendNotInstalledError,
    Device,
    DeviceLostError,
    Options,
    UnsupportedModelError,
    backend,
    names,
)
from inference.adapters.chip import ChipBackend

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    from inference import Backend, Model, Session
    from inference.host import Host

    Find: TypeAlias = Callable[[str], Backend]


@dataclass(frozen=True, slots=True)
class Refused:
    """A device of the order that was not taken, and why."""

    device: str
    reason: str


class Choice(NamedTuple):
    """A prepared session, the device it is on, and those before it that refused: `session, device, refusals = …`."""

    session: Session
    device: Device
    refusals: tuple[Refused, ...]

    @property
    def requested(self) -> str:
        """The first name of the order; the actual device is `device.id`."""
        return self.refusals[0].device if self.refusals else self.device.id


def devices(host: Host | None = None) -> tuple[list[Device], list[Absent]]:
    """Every device of every vendor, and why the other vendors have none; cards are looked for on `host` if given."""
    found: list[Device] = []
    missing: list[Absent] = []
    for vendor in names():
        made: Backend = backend(vendor)
        if host is not None and isinstance(made, ChipBackend):
            made = made.on(host)
        found += made.devices()
        absent = made.absent()
        if absent is not None:
            missing.append(absent)
    return found, missing


def _device(wanted: str, find: Find) -> Device | str:
    """The device of an id (`ascend:0`) or a vendor's first one, or the reason why there is none."""
    vendor = wanted.partition(":")[0]
    try:
        made = find(vendor)
    except KeyError as error:
        return str(error.args[0])
    found = made.devices()
    for device in found:
        if wanted in (device.id, device.vendor):
            return device
    absent = made.absent()
    if absent is not None:
        return absent.reason
    return f"there is no such device; {vendor} has: {', '.join(device.id for device in found)}"


def named(wanted: str) -> tuple[str, str]:
    """An entry of an order of devices as device (or vendor) and precision: `rknnsim@fp16`; fp32 where it says none."""
    device, _, precision = wanted.partition("@")
    return device, precision or "fp32"


def precision(order: Sequence[str], refusals: Sequence[Refused]) -> str:
    """What the session of an order computes in: as the entry says that was taken, the first not refused."""
    return named(order[len(refusals)])[1]


def choose(
    order: Sequence[str], model: Model, options: Options | None = None, find: Find = backend
) -> Choice:
    """Prepare the model on the first device of the order that takes it, in the precision that the entry names.

    Nothing outside the order is ever tried: no CPU and no dry run that was not named. Raises UnsupportedModelError
    with every reason when none takes it, and ValueError for an empty order. `find`: the backend of a vendor.
    """
    if not order:
        message = "the pipeline names no device: give at least one, e.g. cpu"
        raise ValueError(message)
    refusals: list[Refused] = []
    for wanted in order:
        name, precision = named(wanted)
        device = _device(name, find)
        if isinstance(device, str):
            refusals.append(Refused(wanted, device))
            continue
        try:
            told = options or Options()
            told = told if precision == "fp32" else replace(told, precision=precision)
            session = find(device.vendor).prepare(model, device, told)
        except (UnsupportedModelError, BackendNotInstalledError, DeviceLostError) as error:
            refusals.append(Refused(wanted, str(error)))
            continue
        return Choice(session, device, tuple(refusals))
    reasons = "; ".join(f"{each.device}: {each.reason}" for each in refusals)
    message = f"no device of the order takes {model.name}: {reasons}"
    raise UnsupportedModelError(message)
