"""Intel's OpenVINO by its own runtime on any x86 CPU: compiled ahead to a blob, in an engine of its own environment.

It is here for what it proves: the path of the makers whose compilers we cannot run is the same code.
"""

from __future__ import annotations

from typing import Final

from inference.adapters.compiled import CompiledBackend, Kit
from inference.vendors.cpu import name

KIT: Final = Kit(
    vendor="openvino_native", toolchain="openvino", evidence="verified-ci", describe=lambda: f"OpenVINO, {name()}",
    precisions={"fp32": {}, "bf16": {}}, shapes=("dynamic",), ir=13,
)


def backend() -> CompiledBackend:
    """OpenVINO's CPU device, in an engine whose environment has openvino."""
    return CompiledBackend(KIT)
