"""Intel's OpenVINO on any x86 CPU: a provider built into an ONNX Runtime of its own, in an environment of its own.

It is here for what it proves: the path of CANN, MACA and TopsInference is the same code, and this one can be run.
"""

from __future__ import annotations

from typing import Final

from inference.adapters.ort import OrtBackend, Provider
from inference.chip import Route, Source
from inference.vendors.cpu import name

ROUTE: Final = Route(
    kind="ort_legacy", name="ONNX Runtime with OpenVINO", evidence="verified-ci",
    sources=(Source("onnxruntime-openvino 1.24.1", "tried"),),
    target="OpenVINOExecutionProvider", package="onnxruntime-openvino", opset=(7, 25), ir=13, shapes=("dynamic",),
    # Said outright: OpenVINO by itself may choose bfloat16 where the CPU has it, at 10,000 times the error.
    precisions={"fp32": ({"precision": "FP32"},)},
)

SPEC: Final = Provider(
    vendor="openvino", provider=ROUTE.target, evidence=ROUTE.evidence, package=ROUTE.package,
    describe=lambda: f"OpenVINO, {name()}",
    options={"device_type": "CPU"}, precisions=ROUTE.precisions or {},
)


def backend() -> OrtBackend:
    """OpenVINO's CPU device; in an engine, since two ONNX Runtimes in one environment destroy each other."""
    return OrtBackend(SPEC)
