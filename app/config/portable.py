"""Which devices of the pipelines' orders refuse a model, by what vendor files say: told, never a refusal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from inference import InvalidModelError
from inference.devices import entry
from inference.limits import Limits
from inference.lint import Verdict, lint, vendors

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from app.config.desired import Desired
    from inference import Model

LIMITS: Final = Limits(cpu_s=60, wall_s=120.0)
"""Of judging one model: people wait for it."""
IMPORTED_ON: Final = "cpu"
"""Needs no verdict: a model that does not run there is not imported."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What becomes of one model on makers' devices."""

    model: str
    verdicts: tuple[Verdict, ...] = ()
    problem: str = ""
    """Why nobody can say."""


@dataclass(frozen=True, slots=True)
class Refusing:
    """A pipeline whose first device refuses its model, by what is documented."""

    pipeline: str
    model: str
    device: str
    verdict: Verdict


def judge(name: str, model: Model, wanted: Sequence[str], limits: Limits = LIMITS) -> Judged:
    """One model on the best route of each of these vendors, in a child with limits."""
    try:
        return Judged(name, lint(model, wanted, limits=limits))
    except InvalidModelError as error:
        return Judged(name, problem=str(error))


def judged(desired: Desired) -> list[Judged]:
    """Each model on each class of device that a pipeline names for it; none where they name the CPU alone."""
    wanted: dict[str, list[str]] = {}
    known = vendors()
    for one in desired.pipelines.values():
        found = wanted.setdefault(one.entry.model, [])
        found += [each for each in map(vendor, one.entry.devices) if each in known and each not in found]
    return [
        judge(name, desired.models[name].model, found)
        for name, found in wanted.items()
        if found and found != [IMPORTED_ON]
    ]


def refusing(desired: Desired, found: Sequence[Judged]) -> Iterator[Refusing]:
    """Pipelines whose first device will refuse the model: the next one of the order would be taken, or none."""
    refused = {(one.model, each.vendor): each for one in found for each in one.verdicts if each.outcome == "refused"}
    for name, one in desired.pipelines.items():
        device = one.entry.devices[0]
        verdict = refused.get((one.entry.model, vendor(device)))
        if verdict is not None:
            yield Refusing(name, one.entry.model, device, verdict)


def vendor(device: str) -> str:
    """Of an entry of an order: `ascend` of `ascend:0@fp16`."""
    return entry(device)[0].partition(":")[0]
