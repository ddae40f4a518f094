"""Rockchip's NPU in its maker's simulator on a PC: RKNN-Toolkit2 compiles, and computes as the chip would."""

from __future__ import annotations

from typing import Final

from inference.adapters.compiled import CompiledBackend, Kit

KIT: Final = Kit(
    vendor="rknnsim", toolchain="rknn", evidence="simulated",
    describe=lambda: "Rockchip RK3588, the maker's simulator",
    options={"simulate": "1", "soc": "rk3588"},
    # It computes in half precision or int8, never in float32; int8 wants calibration, which is not passed on yet.
    precisions={"fp16": {}}, shapes=("static",), opsets=(None, 19), ir=11,
)


def backend() -> CompiledBackend:
    """One device, in an engine whose environment has rknn-toolkit2."""
    return CompiledBackend(KIT)
