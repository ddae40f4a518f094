"""Kunlunxin 昆仑芯: Paddle's own XPU device."""

from __future__ import annotations

from typing import Final

from inference.adapters.chip import ChipBackend
from inference.chip import Chip, Container, Probe, Route, Source, Text, Visible
from inference.host import HERE, Host

_IMAGE: Final = Source("flagos-ai/build-infra", "docs/content/en/runtime/kunlunxin-xre5.37.1.md")
_RUNTIME: Final = ("libxpurt.so",)
_FOLDERS: Final = ("/opt/xre/so",)

CHIP: Final = Chip(
    vendor="kunlunxin",
    maker=Text("Kunlunxin", "昆仑芯"),
    models=("P800",),
    probe=Probe(nodes=("xpu{n}",), beside=("xpuctrl",), pci_vendor=0x1D22),
    visible=Visible(container="CXPU_VISIBLE_DEVICES", process="XPU_VISIBLE_DEVICES"),
    routes=(
        Route(
            kind="framework", name="Paddle (XPU)", evidence="documented",
            sources=(Source("Paddle Inference", "Config.enable_xpu"),), target="xpu", module="paddle",
            toolchain="paddle",
            libraries=_RUNTIME, folders=_FOLDERS,
        ),
        Route(
            kind="compiled", name="XTCL (TVM)", evidence="documented",
            sources=(Source("FlagOpen/FlagPerf", "inference/inference_engine/kunlunxin/xtcl.py"),),
            target="xpu", module="tvm", libraries=_RUNTIME, folders=_FOLDERS, shapes=("static",),
            notes=(
                Text("The public script lowers precision in its fp32 case, too: check golden vectors.",
                     "公开脚本在 fp32 情形下也会降低精度：务必核对黄金样本。"),
            ),
        ),
        Route(
            kind="framework", name="PyTorch (torch_xray)", evidence="documented", sources=(_IMAGE,),
            target="cuda", module="torch_xray", libraries=_RUNTIME, folders=_FOLDERS,
        ),
    ),
    container=Container(
        sources=(_IMAGE,), devices=("xpu0", "xpuctrl"), environment={"XPU_VISIBLE_DEVICES": "0"},
        toolkit="xpu_container >= 1.0.13 (runtime xpu)",
    ),
    sources=(Source("pci.ids 2023.04.11", "1d22"), _IMAGE),
)


def backend(host: Host = HERE) -> ChipBackend:
    """Kunlunxin's cards on this machine."""
    return ChipBackend(CHIP, host)
