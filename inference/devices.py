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
from inference.chip import Text

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


def named(wanted: str, find: Find = backend) -> Device | Text:
    """The device of an id (`ascend:0`) or a vendor's first one, or the reason why there is none."""
    vendor = wanted.partition(":")[0]
    try:
        made = find(vendor)
    except KeyError as error:
        return Text(str(error.args[0]), f"没有厂商 {vendor!r}")
    found = made.devices()
    for device in found:
        if wanted in (device.id, device.vendor):
            return device
    absent = made.absent()
    if absent is not None:
        return Text(absent.reason, absent.reason_zh or absent.reason)
    has = ", ".join(device.id for device in found)
    return Text(f"there is no such device; {vendor} has: {has}", f"没有该设备；{vendor} 有：{has}")


def _at_once(_: Device, __: str) -> str:
    return ""


def _asked(options: Options | None, computed: str) -> Options:
    told = options or Options()
    return told if computed == "fp32" else replace(told, precision=computed)


def entry(wanted: str) -> tuple[str, str]:
    """An entry of an order of devices as device (or vendor) and precision: `rknnsim@fp16`; fp32 where it says none."""
    device, _, precision = wanted.partition("@")
    return device, precision or "fp32"


def precision(order: Sequence[str], refusals: Sequence[Refused]) -> str:
    """What the session of an order computes in: as the entry says that was taken, the first not refused."""
    refused = {one.device for one in refusals}
    return entry(next(one for one in order if one not in refused))[1]


def choose(
    order: Sequence[str],
    model: Model,
    options: Options | None = None,
    find: Find = backend,
    put_off: Callable[[Device, str], str] = _at_once,
) -> Choice:
    """Prepare the model on the first device of the order that takes it, in the precision that the entry names.

    Nothing outside the order is ever tried: no CPU and no dry run that was not named. Raises UnsupportedModelError
    with every reason when none takes it, and ValueError for an empty order. `find`: the backend of a vendor.
    `put_off`: why a device, in a precision, is tried only where no other takes the model; empty for one that keeps its
    place.
    """
    if not order:
        message = "the pipeline names no device: give at least one, e.g. cpu"
        raise ValueError(message)
    refusals: list[Refused] = []
    later: list[tuple[str, Device]] = []
    for wanted in order:
        name, computed = entry(wanted)
        device = named(name, find)
        if isinstance(device, Text):
            refusals.append(Refused(wanted, device.en))
        elif why := put_off(device, computed):
            refusals.append(Refused(wanted, why))
            later.append((wanted, device))
        else:
            made = _prepared(model, device, _asked(options, computed), find)
            if not isinstance(made, str):
                return Choice(made, device, tuple(refusals))
            refusals.append(Refused(wanted, made))
    for wanted, device in later:
        made = _prepared(model, device, _asked(options, entry(wanted)[1]), find)
        if not isinstance(made, str):
            return Choice(made, device, tuple(one for one in refusals if one.device != wanted))
        refusals.append(Refused(wanted, made))
    reasons = "; ".join(f"{each.device}: {each.reason}" for each in refusals)
    message = f"no device of the order takes {model.name}: {reasons}"
    raise UnsupportedModelError(message)


def _prepared(model: Model, device: Device, options: Options, find: Find) -> Session | str:
    """A session, or why the device does not take the model."""
    try:
        return find(device.vendor).prepare(model, device, options)
    except (UnsupportedModelError, BackendNotInstalledError, DeviceLostError) as error:
        return str(error)
