"""Rockchip's NPU in its maker's simulator on a PC: RKNN-Toolkit2 compiles, and computes as the chip would."""

from __future__ import annotations

from typing import Final

from inference.adapters.compiled import CompiledBackend, Kit
from inference.chip import Route, Source

ROUTE: Final = Route(
    kind="compiled", name="RKNN-Toolkit2 and its simulator", evidence="simulated",
    sources=(Source("rknn-toolkit2 2.5.0", "tried"),), package="rknn-toolkit2", toolchain="rknn",
    shapes=("static",),
    # It computes in half precision or int8, never in float32.
    precisions={"fp16": ({},), "int8": ({},)},
)

KIT: Final = Kit(
    vendor="rknnsim", toolchain=ROUTE.toolchain, evidence=ROUTE.evidence,
    describe=lambda: "Rockchip RK3588, the maker's simulator", options={"simulate": "1", "soc": "rk3588"},
    precisions={"fp16": {}, "int8": {}}, shapes=("static",), opsets=ROUTE.opset, ir=ROUTE.ir,
)


def backend() -> CompiledBackend:
    """One device, in an engine whose environment has rknn-toolkit2."""
    return CompiledBackend(KIT)
