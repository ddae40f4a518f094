"""Machines that hold accelerators, as trees of files: device nodes, sysfs, libraries and Python modules."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from inference.host import Host

TREES: Final = Path(__file__).with_name("chips")
"""One file per maker; its name is the vendor file's."""


def described() -> dict[str, dict[str, Any]]:
    """What every file there says, by maker."""
    return {file.stem: yaml.safe_load(file.read_text(encoding="utf-8")) for file in sorted(TREES.glob("*.yaml"))}


class Machine:
    """A tree of files that looks like a machine's, without anything of the machine the tests run on."""

    def __init__(self, folder: Path) -> None:
        """A machine without any accelerator, runtime or module."""
        self.root = folder / "root"
        self.modules = folder / "modules"
        for made in (self.root / "dev", self.root / "sys/bus/pci/devices", self.modules):
            made.mkdir(parents=True)

    @property
    def host(self) -> Host:
        """The machine, to be looked at."""
        return Host(self.root, (str(self.modules),))

    def write(self, path: str, text: str = "") -> None:
        """A file, below the root."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def hardware(self, said: Mapping[str, Any]) -> None:
        """Device nodes, PCI devices and the owners of render nodes."""
        self.pci(said)
        for node in said.get("nodes", ()):
            self.write(f"/dev/{node}")
        for number, owner in said.get("render", {}).items():
            device = f"/sys/class/drm/renderD{number}/device"
            if isinstance(owner, int):
                self.write(f"{device}/vendor", f"{owner:#06x}\n")
            else:
                self.write(f"{device}/uevent", f"DRIVER={owner}\nOF_NAME=npu\n")

    def pci(self, said: Mapping[str, Any]) -> None:
        """PCI devices alone."""
        for address, (vendor, device, kind) in said.get("pci", {}).items():
            folder = f"/sys/bus/pci/devices/{address}"
            self.write(f"{folder}/vendor", f"{vendor:#06x}\n")
            self.write(f"{folder}/device", f"{device:#06x}\n")
            self.write(f"{folder}/class", f"{kind:#08x}\n")

    def runtime(self, said: Mapping[str, Any]) -> None:
        """Libraries, and modules that must be found without being imported."""
        for library in said.get("libraries", ()):
            self.write(library)
        for module in said.get("modules", ()):
            (self.modules / f"{module}.py").write_text("raise RuntimeError('imported')\n", encoding="utf-8")
