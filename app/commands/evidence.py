"""Conformance reports on file: what a device's evidence rests on where a host with the chip has shown it."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from app.commands.conform_report import ReportError, Signed, verified
from inference.kit import PASSED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from inference import Absent, Device

FOLDER: Final = "conformance"
NEEDED: Final = ("nodes", "golden", "finite", "placement")
"""Sections without which a report shows too little of a chip."""
RAISED, FROM = "verified-hardware", "documented"


@dataclass(frozen=True, slots=True)
class Filed:
    """A report on file."""

    path: Path
    signed: Signed

    @property
    def runtime(self) -> str:
        """Name and version of the runtime: `onnxruntime 1.24.4`."""
        return self.signed.report.versions.backend.partition(",")[0].strip()


def lacking(signed: Signed) -> list[str]:
    """Why a report does not raise anything: sections that did not pass, or a selection of cases."""
    verdicts = {one.section: one.verdict for one in signed.report.sections}
    found = [name for name in NEEDED if verdicts.get(name) != PASSED]
    failed = [name for name, verdict in verdicts.items() if verdict == "failed" and name not in found]
    return [*found, *failed, *(["selection"] if signed.report.selection else [])]


def keep(data_dir: Path, content: bytes) -> Path:
    """Put a report on file, as it is; the same one again changes nothing. Raises OSError."""
    folder = data_dir / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{hashlib.sha256(content).hexdigest()}.json"
    with path.with_suffix(".new").open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    path.with_suffix(".new").replace(path)
    return path


def filed(data_dir: Path) -> list[Filed]:
    """The reports on file whose signature holds; what was changed on the disk counts for nothing."""
    found = []
    for path in sorted((data_dir / FOLDER).glob("*.json")):
        try:
            signed = verified(path.read_bytes())
        except (OSError, ReportError):
            continue
        if not lacking(signed):
            found.append(Filed(path, signed))
    return found


def of_device(device: Device, reports: Iterable[Filed]) -> Filed | None:
    """The report that shows this device: of its vendor, on this very version of the runtime."""
    mine = device.backend.partition(",")[0].strip()
    if device.evidence != FROM:
        return None
    return next((one for one in reports if _of(one, device.vendor) and one.runtime == mine), None)


def of_vendor(absent: Absent, reports: Iterable[Filed]) -> Filed | None:
    """A report that shows the vendor's chip on some host, where there is none here."""
    return next((one for one in reports if absent.evidence == FROM and _of(one, absent.vendor)), None)


def _of(one: Filed, vendor: str) -> bool:
    return one.signed.report.device.vendor == vendor


def raised(
    found: Sequence[Device], missing: Sequence[Absent], reports: Sequence[Filed]
) -> tuple[list[Device], list[Absent]]:
    """Devices and vendors with the evidence that reports on file give them."""
    devices = [replace(one, evidence=RAISED) if of_device(one, reports) else one for one in found]
    absent = [replace(one, evidence=RAISED) if of_vendor(one, reports) else one for one in missing]
    return devices, absent
