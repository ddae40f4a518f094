"""Sophgo 算能: models compiled by TPU-MLIR, run by SAIL."""

from __future__ import annotations

from typing import Final

from inference.adapters.chip import ChipBackend
from inference.chip import Chip, Container, Probe, Route, Source, Text, Visible
from inference.host import HERE, Host

_DRIVER: Final = Source("sophgo/libsophon", "driver/bm_common.h")
_GUIDE: Final = Source("sophgo/sophon-demo", "docs/Environment_Install_Guide.md")

CHIP: Final = Chip(
    vendor="sophgo",
    maker=Text("Sophgo", "算能"),
    models=("BM1684", "BM1684X", "BM1688"),
    probe=Probe(nodes=("bm-sophon{n}", "bm-tpu{n}"), pci_vendor=0x1E30),
    visible=Visible(),
    routes=(
        Route(
            kind="compiled", name="TPU-MLIR and SAIL (.bmodel)", evidence="documented",
            sources=(Source("tpu_mlir 1.30.2", "model_transform.py, model_deploy.py"), _GUIDE),
            package="sophon-sail", module="sophon", libraries=("libbmrt.so",),
            folders=("/opt/sophon/libsophon-current/lib",), shapes=("static",),
            precisions={"fp32": ({"quantize": "F32"},), "fp16": ({"quantize": "F16"},)},
            options={"soc": "--chip"},
            notes=(
                Text("Models are compiled on a PC by tpu_mlir, which wants Python 3.10 and nothing else.",
                     "模型在 PC 上由 tpu_mlir 编译，它只支持 Python 3.10。"),
                Text("SAIL is built from the maker's archive, one way for PCIe cards and another for SoCs.",
                     "SAIL 用厂商压缩包构建，PCIe 卡与 SoC 的构建方式不同。"),
            ),
        ),
    ),
    container=Container(
        sources=(_DRIVER, _GUIDE), devices=("bmdev-ctl", "bm-sophon0"), volumes=("/opt/sophon",),
        notes=(
            Text("On a SoC the node is /dev/bm-tpu0: change the line then.",
                 "在 SoC 上设备节点为 /dev/bm-tpu0：届时请修改该行。"),
        ),
    ),
    sources=(_DRIVER, Source("BMNNSDK2 guide", "hardware check: lspci shows 1e30:1684")),
)


def backend(host: Host = HERE) -> ChipBackend:
    """Sophgo's chips on this machine."""
    return ChipBackend(CHIP, host)
