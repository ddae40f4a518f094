"""What a certificate says, and how a model and a device stand by it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from app import times
from app.texts import storable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from app.certificates.queries import Running
    from app.certificates.tables import CertificateRow
    from inference import Device

State = Literal["valid", "changed", "failed", "unchecked"]
"""`valid`: the newest check with the present driver and runtime passed. `changed`: one passed, with another driver or
runtime. `failed`: the newest with the present ones did not pass. `unchecked`: there was none."""
Occasion = Literal["apply", "certify", "unchecked", "return", "serve", "compile"]
UNASKED: Final = ("unchecked", "serve", "compile")
"""Checks that say nothing of whether somebody was asked when a pipeline was activated."""

SYSTEM: Final = "system"
"""Who asked, where nobody did."""
PRECISION: Final = "fp32"
"""What workers ask of a device."""
BATCH: Final = 64
"""The size at which p99 is measured unless another is wanted; and at 1."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What a certificate is for, as it is now."""

    model: str
    """Its digest."""
    device: str
    backend: str
    driver: str
    precision: str = PRECISION

    @classmethod
    def of(cls, model: str, device: Device, precision: str = PRECISION) -> Self:
        """Of a device as its probe finds it now; texts as long as a database keeps them."""
        told = storable(device.id, 60), storable(device.backend, 100), storable(device.driver, 200)
        return cls(model, *told, precision)


@dataclass(frozen=True, slots=True)
class Standing:
    """How a subject stands."""

    state: State
    certificate: int | None = None
    """The row that says so; None where there is none."""
    first: bool = False
    """Nobody has ever had this model checked: it was in force before there were certificates."""

    @property
    def trusted(self) -> bool:
        """Whether answers are as good as their inputs. An upgrade alone makes nothing Uncertain."""
        return self.state == "valid" or self.first


STATES: Final[Mapping[str, Mapping[str, str]]] = {
    "valid": {"en": "the check passed", "zh-CN": "检查已通过"},
    "changed": {
        "en": "its driver or runtime is another one than when the check passed",
        "zh-CN": "驱动或运行时与检查通过时不同",
    },
    "failed": {"en": "the check did not pass", "zh-CN": "检查未通过"},
    "unchecked": {"en": "it was never checked there", "zh-CN": "从未在该设备上检查"},
}
"""Each state for people."""


def certificate_json(row: CertificateRow) -> dict[str, Any]:
    """As REST and the command line show it."""
    shown = {name: getattr(row, name) for name in _SHOWN}
    return {
        **shown,
        "failures": [{"en": en, "zh-CN": zh} for en, zh in row.failures],
        "p99_ms": None if row.p99_ns is None else row.p99_ns / 1e6,
        "at": times.rfc3339(row.at),
    }


_SHOWN: Final = (
    "id", "model_digest", "device", "name", "backend", "driver", "precision", "outcome", "passed", "golden",
    "golden_made_by", "placement", "latency", "batch", "taken_ms", "host", "made_by", "occasion",
)  # fmt: skip


def running_json(one: Running) -> dict[str, Any]:
    """As REST and the command line show it."""
    standing, override, spec = one.standing, one.override, one.version.spec
    said = override is not None and (standing is None or standing.state != "valid")
    return {
        "pipeline": one.version.pipeline,
        "version": one.version.number,
        "model_digest": spec.model_digest,
        "devices": list(spec.devices),
        "device_wanted": one.wanted,
        "device": one.device,
        "backend": one.backend,
        "driver": one.driver,
        "certificate": None if standing is None else standing.state,
        "certificate_id": None if standing is None else standing.certificate,
        "trusted": standing is None or standing.trusted,
        "override": {"who": override.who, "reason": override.reason, "at": times.rfc3339(override.at)}
        if said and override is not None
        else None,
    }
