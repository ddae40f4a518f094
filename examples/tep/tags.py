"""The tags of the Tennessee Eastman plant: name, unit and meaning of each, and the order of the model's columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Unit:
    """An engineering unit as a person reads it, and its UN/CEFACT common code if there is one (IEC 62541-8, 5.6.4)."""

    text: str
    code: str = ""

    @property
    def id(self) -> int:
        """The common code as an integer, one byte per character; -1 where there is none."""
        return int.from_bytes(self.code.encode("ascii"), "big") if self.code else -1


@dataclass(frozen=True, slots=True)
class Tag:
    """One measured or manipulated point of the plant."""

    name: str
    unit: Unit
    description: str


KSCMH: Final = Unit("kscmh")
KG_H: Final = Unit("kg/h", "E93")
M3_H: Final = Unit("m³/h", "MQH")
KPA: Final = Unit("kPa", "KPA")
CELSIUS: Final = Unit("°C", "CEL")
PERCENT: Final = Unit("%", "P1")
KW: Final = Unit("kW", "KWT")
HOUR: Final = Unit("h", "HUR")
MOL_PERCENT: Final = Unit("mol %")
SPEED: Final = Unit("s/s")

_MEASURED: Final = (
    (KSCMH, "A feed flow (stream 1)"),
    (KG_H, "D feed flow (stream 2)"),
    (KG_H, "E feed flow (stream 3)"),
    (KSCMH, "A and C feed flow (stream 4)"),
    (KSCMH, "Recycle flow (stream 8)"),
    (KSCMH, "Reactor feed rate (stream 6)"),
    (KPA, "Reactor pressure, gauge"),
    (PERCENT, "Reactor level"),
    (CELSIUS, "Reactor temperature"),
    (KSCMH, "Purge rate (stream 9)"),
    (CELSIUS, "Product separator temperature"),
    (PERCENT, "Product separator level"),
    (KPA, "Product separator pressure, gauge"),
    (M3_H, "Product separator underflow (stream 10)"),
    (PERCENT, "Stripper level"),
    (KPA, "Stripper pressure, gauge"),
    (M3_H, "Stripper underflow (stream 11)"),
    (CELSIUS, "Stripper temperature"),
    (KG_H, "Stripper steam flow"),
    (KW, "Compressor work"),
    (CELSIUS, "Reactor cooling water outlet temperature"),
    (CELSIUS, "Separator cooling water outlet temperature"),
)
_MANIPULATED: Final = (
    "D feed valve",
    "E feed valve",
    "A feed valve",
    "A and C feed valve",
    "Compressor recycle valve",
    "Purge valve",
    "Separator underflow valve",
    "Stripper underflow valve",
    "Stripper steam valve",
    "Reactor cooling water valve",
    "Condenser cooling water valve",
    "Agitator speed",
)
FAULTS: Final = (
    "A/C feed ratio, stream 4 (step)",
    "B composition, stream 4 (step)",
    "D feed temperature (step)",
    "Reactor cooling water inlet temperature (step)",
    "Condenser cooling water inlet temperature (step)",
    "A feed loss (step)",
    "C header pressure loss (step)",
    "A, B, C composition, stream 4 (random)",
    "D feed temperature (random)",
    "C feed temperature (random)",
    "Reactor cooling water inlet temperature (random)",
    "Condenser cooling water inlet temperature (random)",
    "Reaction kinetics (slow drift)",
    "Reactor cooling water valve (sticking)",
    "Condenser cooling water valve (sticking)",
    "Stripper heat transfer (random)",
    "Reactor heat transfer (random)",
    "Condenser heat transfer (random)",
    "Recycle, underflow and steam valves (sticking)",
    "Unknown (random)",
    "A feed temperature (random)",
    "E feed temperature (random)",
    "A feed pressure (random)",
    "D feed pressure (random)",
    "E feed pressure (random)",
    "A and C feed pressure (random)",
    "Reactor cooling water pressure (random)",
    "Condenser cooling water pressure (random)",
)
"""What each fault switch does: `FAULTS[0]` is IDV(1)."""

XMEAS: Final = tuple(Tag(f"XMEAS_{i:02d}", unit, text) for i, (unit, text) in enumerate(_MEASURED, start=1))
XMV: Final = tuple(Tag(f"XMV_{i:02d}", PERCENT, text) for i, text in enumerate(_MANIPULATED, start=1))
IDV: Final = tuple(f"IDV_{i:02d}" for i in range(1, len(FAULTS) + 1))


@dataclass(frozen=True, slots=True)
class Analyser:
    """One gas or liquid chromatograph: it measures several components of one stream at once, slowly."""

    name: str
    stream: str
    first: int
    """The number of its first XMEAS."""
    components: str

    @property
    def tags(self) -> tuple[Tag, ...]:
        """One tag per component, in the order of XMEAS."""
        return tuple(
            Tag(f"XMEAS_{self.first + i:02d}", MOL_PERCENT, f"{component} in {self.stream}")
            for i, component in enumerate(self.components)
        )


ANALYSERS: Final = (
    Analyser("feed", "reactor feed (stream 6)", 23, "ABCDEF"),
    Analyser("purge", "purge (stream 9)", 29, "ABCDEFGH"),
    Analyser("product", "product (stream 11)", 37, "DEFGH"),
)
ANALYSED: Final = tuple(tag for analyser in ANALYSERS for tag in analyser.tags)
COLUMNS: Final = XMEAS + XMV + ANALYSED
"""The model's columns, in order: XMEAS 1-22 and XMV 1-12 come over OPC UA, XMEAS 23-41 over MQTT."""
N_FAST: Final = len(XMEAS) + len(XMV)
