"""Any CPU through ONNX Runtime: the default device, and the one every other is compared with."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Final

from inference.adapters.ort import CPU, OrtBackend, Provider

_CPUINFO: Final = Path("/proc/cpuinfo")


def name() -> str:
    """The processor as it calls itself; many ARM kernels give no name, then the architecture."""
    if _CPUINFO.exists():
        for line in _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith(("model name", "Model Name", "Hardware")):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


SPEC: Final = Provider(
    vendor="cpu", provider=CPU, evidence="verified-ci", package="onnxruntime", describe=name,
)


def backend() -> OrtBackend:
    """ONNX Runtime's CPU provider."""
    return OrtBackend(SPEC)
