"""What a machine has: device nodes, PCI devices, shared libraries and Python modules, below a root of choice.

Nothing is loaded, started or asked: files are looked at. Given a made-up tree as the root, the same code runs on it.
"""

from __future__ import annotations

import importlib.util
import os
import re
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Final

from inference.linker import configured, searched

if TYPE_CHECKING:
    from inference.chip import Probe

RENDER: Final = "dri/renderD{n}"
"""The pattern of render nodes, which chips of every maker have."""
_ACCELERATOR_CLASSES: Final = frozenset((0x03, 0x0B, 0x12))
"""PCI base classes: display controller, processor, processing accelerator. Makers of chips make bridges and network
cards, too (PCI Code and ID Assignment Specification, section 1)."""
_LIBRARY_FOLDERS: Final = ("/lib", "/usr/lib", "/lib64", "/usr/lib64", "/usr/local/lib")


@dataclass(frozen=True, slots=True)
class Card:
    """One card that can be opened."""

    ordinal: int
    """From 0, in the order of the nodes: as a runtime counts the cards it sees."""
    node: str
    """Its path, below the root: /dev/davinci0."""


@dataclass(frozen=True, slots=True)
class Host:
    """A machine, or a tree of files that looks like one."""

    root: Path = Path("/")
    modules: tuple[str, ...] | None = None
    """Where Python modules are looked for; None: where this process imports from."""

    def has(self, path: str) -> bool:
        """Whether there is such a file, node or folder. False also where it may not be looked at."""
        return os.path.exists(self._below(path))  # noqa: PTH110 - Path.exists raises where it may not look

    def cards(self, probe: Probe) -> tuple[Card, ...]:
        """The cards that have a node, by the first of the probe's alternatives that finds any."""
        for pattern in probe.nodes:
            found = [
                (number, path) for number, path in self._numbered(pattern)
                if pattern != RENDER or self._renders(number, probe)
            ]
            if found:
                return tuple(Card(ordinal, path) for ordinal, (_, path) in enumerate(sorted(found)))
        return ()

    def pci(self, probe: Probe) -> tuple[str, ...]:
        """Addresses and ids of the accelerators of the probe's vendor: `0000:81:00.0 (19e5:d500)`."""
        return tuple(
            f"{device.rpartition('/')[2]} ({probe.pci_vendor or 0:04x}:{self._number(f'{device}/device') or 0:04x})"
            for device in self._accelerators(probe)
        )

    def driver(self, probe: Probe) -> str:
        """The kernel's drivers of its cards with their versions, `davinci 24.1`; empty where the kernel does not say.

        A module built without a version is told by the digest of its source (sysfs, /sys/module/NAME/srcversion).
        """
        found = set()
        for device in self._accelerators(probe):
            name = next(
                (line[7:] for line in self._text(f"{device}/uevent").splitlines() if line.startswith("DRIVER=")),
                "",
            )
            module = f"/sys/module/{name}" if name else f"{device}/driver/module"
            version = self._text(f"{module}/version") or self._text(f"{module}/srcversion")
            found.add(" ".join(part for part in (name, version) if part))
        return ", ".join(sorted(found - {""}))

    def _accelerators(self, probe: Probe) -> list[str]:
        """Folders of sysfs of the PCI devices that are the chip's."""
        found = []
        for device in self._list("/sys/bus/pci/devices"):
            vendor = self._number(f"{device}/vendor")
            if vendor is None or vendor != probe.pci_vendor:
                continue
            product, kind = self._number(f"{device}/device"), self._number(f"{device}/class")
            listed = not probe.pci_devices or product in probe.pci_devices
            if listed and kind is not None and kind >> 16 in _ACCELERATOR_CLASSES:
                found.append(device)
        return found

    def library(self, name: str, folders: tuple[str, ...]) -> str | None:
        """The path of a shared library, with or without a version behind its name; None where it is not."""
        for folder in (*folders, *searched(), *configured(self.root), *_LIBRARY_FOLDERS):
            for path in self._list(folder):
                file = path.rpartition("/")[2]
                if (file == name or file.startswith(f"{name}.")) and self.has(path):
                    return path
        return None

    def module(self, name: str) -> bool:
        """Whether a top-level Python module can be found; it is not imported."""
        if self.modules is None:
            return importlib.util.find_spec(name) is not None
        return PathFinder.find_spec(name, self.modules) is not None

    def _below(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def _list(self, folder: str) -> list[str]:
        """What lies in a folder, sorted; nothing where it is not there or may not be looked into."""
        try:
            return sorted(f"{folder.rstrip('/')}/{name}" for name in os.listdir(self._below(folder)))  # noqa: PTH208
        except OSError:
            return []

    def _numbered(self, pattern: str) -> list[tuple[int, str]]:
        """The nodes below /dev that a pattern names, with their numbers; 0 for a pattern without one."""
        folder, _, name = f"/dev/{pattern}".rpartition("/")
        if "{n}" not in name:
            return [(0, f"{folder}/{name}")] if self.has(f"{folder}/{name}") else []
        before, _, after = name.partition("{n}")
        exact = re.compile(f"{re.escape(before)}([0-9]+){re.escape(after)}")
        found = [(exact.fullmatch(path.rpartition("/")[2]), path) for path in self._list(folder)]
        return [(int(match[1]), path) for match, path in found if match is not None and self.has(path)]

    def _renders(self, number: int, probe: Probe) -> bool:
        """Whether a render node is the chip's, as the kernel says."""
        device = f"/sys/class/drm/renderD{number}/device"
        if probe.driver:
            return f"DRIVER={probe.driver}" in self._text(f"{device}/uevent").splitlines()
        return probe.pci_vendor is not None and self._number(f"{device}/vendor") == probe.pci_vendor

    def _text(self, path: str) -> str:
        try:
            return self._below(path).read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return ""

    def _number(self, path: str) -> int | None:
        """A hexadecimal number of sysfs: 0x19e5."""
        try:
            return int(self._text(path), 16)
        except ValueError:
            return None


HERE: Final = Host()
"""This machine."""
