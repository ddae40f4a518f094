"""Intel's OpenVINO by its own runtime on any x86 CPU: compiled ahead to a blob, in an engine of its own environment.

It is here for what it proves: the path of the makers whose compilers we cannot run is the same code.
"""

from __future__ import annotations

from typing import Final

from inference.adapters.compiled import CompiledBackend, Kit
from inference.chip import Route, Source
from inference.vendors.cpu import name

ROUTE: Final = Route(
    kind="compiled", name="OpenVINO's own runtime", evidence="verified-ci",
    sources=(Source("openvino 2026.4.1", "tried"),),
    package="openvino", toolchain="openvino", ir=13, shapes=("dynamic",), precisions={"fp32": ({},), "bf16": ({},)},
    rejects=("int64", "uint64", "float64"),
)

KIT: Final = Kit(
    vendor="openvino_native", toolchain=ROUTE.toolchain, evidence=ROUTE.evidence,
    describe=lambda: f"OpenVINO, {name()}",
    precisions={"fp32": {}, "bf16": {}}, shapes=("dynamic",), ir=ROUTE.ir,
)


def backend() -> CompiledBackend:
    """OpenVINO's CPU device, in an engine whose environment has openvino."""
    return CompiledBackend(KIT)
