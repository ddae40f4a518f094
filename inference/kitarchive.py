"""The conformance kit as one file: its code, the engine's driver and all material, for a host that has only Python."""

from __future__ import annotations

import importlib
import io
import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import onnx

import inference
from inference import kit, names
from inference.adapters.ort import CPU
from inference.engine import beside
from inference.kit import pack
from inference.kit.command import ABOUT, MATERIAL
from inference.kit.host import Host, Provider
from inference.kit.nodes import judged

if TYPE_CHECKING:
    from collections.abc import Iterable

    from inference.chip import Route
    from inference.kit import Case
    from inference.kit.suite import Material

DRIVER: Final = ("engine_wire", "engine_ort")
_FIXED: Final = (1980, 1, 1, 0, 0, 0)
_MAIN: Final = '''"""The conformance kit of Headrace: python conform.pyz --help."""

import sys

if sys.version_info < (3, 8):
    sys.exit("Python 3.8 or newer is needed")

from kit.command import main

sys.exit(main(sys.argv[1:], sys.path[0]))
'''


def bare() -> Host:
    """ONNX Runtime of this Python on the CPU, with nothing of ours between: the yardstick."""
    wire = beside("engine_wire")
    return Host(beside("engine_ort"), wire, Provider("cpu", CPU))


def right(cases: Iterable[Case]) -> tuple[tuple[str, ...], str]:
    """The cases that the yardstick passes, and what it is."""
    host = bare()
    found = host.driver.runtime({"plugin": None})
    passed = tuple(one.case for one in judged(host, cases) if one.outcome == "passed")
    return passed, f"bare onnxruntime {found['version']} on the CPU"


def providers() -> dict[str, Any]:
    """What ONNX Runtime is told on each maker's host: of vendors whose best documented way is a provider."""
    found: dict[str, Any] = {}
    for vendor in names():
        module = importlib.import_module(f"inference.vendors.{vendor}")
        chip = getattr(module, "CHIP", None)
        routes: tuple[Route, ...] = chip.routes if chip is not None else tuple(
            one for one in [getattr(module, "ROUTE", None)] if one is not None
        )
        route = next((one for one in routes if one.kind in ("ort_legacy", "ort_plugin") and one.target), None)
        if route is None or vendor == "simnpu":
            continue
        spec = getattr(module, "SPEC", None)
        precisions = route.precisions or {"fp32": ({},)}
        found[vendor] = {
            "provider": route.target, "options": dict(spec.options) if spec is not None else {},
            "precisions": {name: [dict(one) for one in told] for name, told in precisions.items()},
        }
    return found


def write(target: Path, material: Material, version: str) -> None:
    """Make the archive. `version`: of Headrace, empty where it is not installed. Raises OSError."""
    about = {"headrace": version, "onnx": onnx.__version__, "vendors": providers()}
    held = io.BytesIO()
    pack.write(material, held)
    here = Path(inference.__file__).parent
    files = {f"kit/{path.name}": path for path in sorted(Path(kit.__file__).parent.glob("*.py"))}
    files |= {f"{name}.py": here / f"{name}.py" for name in DRIVER}
    with target.open("wb") as out:
        out.write(b"#!/usr/bin/env python3\n")
        with zipfile.ZipFile(out, "w") as archive:
            _entry(archive, "__main__.py", _MAIN.encode())
            for name, path in files.items():
                _entry(archive, name, path.read_bytes())
            _entry(archive, ABOUT, json.dumps(about).encode())
            archive.writestr(zipfile.ZipInfo(MATERIAL, _FIXED), held.getvalue(), zipfile.ZIP_STORED)


def _entry(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name, _FIXED), content, zipfile.ZIP_DEFLATED)
