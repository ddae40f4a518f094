"""What a certificate says, and how a model and a device stand by it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from app.texts import storable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from inference import Device

State = Literal["valid", "changed", "failed", "unchecked"]
"""`valid`: the newest check with the present driver and runtime passed. `changed`: one passed, with another driver or
runtime. `failed`: the newest with the present ones did not pass. `unchecked`: there was none."""
Occasion = Literal["apply", "certify", "unchecked", "return"]

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
    def of(cls, model: str, device: Device) -> Self:
        """Of a device as its probe finds it now; texts as long as a database keeps them."""
        return cls(model, storable(device.id, 60), storable(device.backend, 100), storable(device.driver, 200))


@dataclass(frozen=True, slots=True)
class Standing:
    """How a subject stands."""

    state: State
    certificate: int | None = None
    """The row that says so; None where there is none."""
    first: bool = False
    """Nobody has ever checked this model on anything: it was in force before there were certificates."""

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
