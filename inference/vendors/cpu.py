"""Any CPU through ONNX Runtime: the default device, and the one every other is compared with."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Final

from inference.adapters.ort import CPU, OrtBackend, Provider
from inference.chip import Route, Source

_CPUINFO: Final = Path("/proc/cpuinfo")


def name() -> str:
    """The processor as it calls itself; many ARM kernels give no name, then the architecture."""
    if _CPUINFO.exists():
        for line in _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith(("model name", "Model Name", "Hardware")):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


ROUTE: Final = Route(
    kind="ort_legacy", name="ONNX Runtime", evidence="verified-ci",
    sources=(Source("microsoft/onnxruntime", "docs/OperatorKernels.md"),),
    target=CPU, package="onnxruntime", opset=(7, 26), ir=13, lacks=(), shapes=("dynamic",), precisions={"fp32": ({},)},
)

SPEC: Final = Provider(
    vendor="cpu", provider=CPU, evidence=ROUTE.evidence, package=ROUTE.package, describe=name,
)


def backend() -> OrtBackend:
    """ONNX Runtime's CPU provider."""
    return OrtBackend(SPEC)
