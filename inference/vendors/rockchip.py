"""Rockchip 瑞芯微 NPU: models compiled by RKNN-Toolkit2, run by its lite runtime on the board."""

from __future__ import annotations

from typing import Final

from inference.adapters.chip import ChipBackend
from inference.chip import Chip, Container, Probe, Route, Source, Text, Visible
from inference.host import HERE, Host

_DRIVER: Final = Source("rockchip-linux/kernel", "drivers/rknpu/rknpu_drv.c")
_LITE: Final = Source("airockchip/rknn-toolkit2", "rknn-toolkit-lite2/examples/resnet18/test.py")

CHIP: Final = Chip(
    vendor="rockchip",
    maker=Text("Rockchip", "瑞芯微"),
    models=("RK3562", "RK3566", "RK3568", "RK3576", "RK3588"),
    probe=Probe(nodes=("rknpu", "dri/renderD{n}"), driver="RKNPU", several=False),
    visible=Visible(),
    routes=(
        Route(
            kind="compiled", name="RKNN", evidence="documented",
            sources=(_LITE, Source("rknn-toolkit2 2.5.0, rknn-toolkit-lite2", "package metadata")),
            package="rknn-toolkit-lite2", module="rknnlite", toolchain="rknn", libraries=("librknnrt.so",),
            folders=("/usr/lib",),
            shapes=("static",),
            precisions={"fp16": ({"do_quantization": "False"},), "int8": ({"do_quantization": "True"},)},
            options={"cores": "core_mask", "soc": "target_platform"},
            recipe=(
                "python3 -m venv .venv-rockchip",
                ".venv-rockchip/bin/pip install rknn-toolkit-lite2 rknn-toolkit2 'numpy<2' 'onnx<=1.18'",
            ),
            notes=(
                Text("It computes in fp16 or int8, never in fp32: what passes 65504 becomes infinite or NaN.",
                     "以 fp16 或 int8 计算，从不使用 fp32：超过 65504 的值会变成无穷大或 NaN。"),
                Text("Models are compiled on the board, by rknn-toolkit2: 2.5.0 has wheels for aarch64.",
                     "模型在板上由 rknn-toolkit2 编译：2.5.0 提供 aarch64 软件包。"),
            ),
        ),
    ),
    container=Container(
        sources=(_DRIVER,), devices=("dri",), volumes=("/usr/lib/librknnrt.so",),
        notes=(
            Text("Kernels whose driver is built for DMA heaps have /dev/rknpu, not /dev/dri: change the line then.",
                 "驱动按 DMA heap 方式构建的内核提供 /dev/rknpu 而非 /dev/dri：届时请修改该行。"),
        ),
    ),
    sources=(_DRIVER, _LITE),
)


def backend(host: Host = HERE) -> ChipBackend:
    """Rockchip's NPU on this machine."""
    return ChipBackend(CHIP, host)
