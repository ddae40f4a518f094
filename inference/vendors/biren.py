"""Biren 壁仞: models compiled by suInfer."""

from __future__ import annotations

from typing import Final

from inference.adapters.chip import ChipBackend
from inference.chip import Chip, Container, Probe, Route, Source, Text, Visible
from inference.host import HERE, Host

_PLUGIN: Final = Source("Project-HAMi/biren-device-plugin", "pkg/brgpu: plugin.go, kata.go, cdi.go")

CHIP: Final = Chip(
    vendor="biren",
    maker=Text("Biren", "壁仞科技"),
    models=("BR10x", "BR110"),
    probe=Probe(nodes=("biren/card_{n}",), pci_vendor=0x1EE0),
    visible=Visible(container="BR_PHY_CARDS", process="SUPA_VISIBLE_DEVICES"),
    routes=(
        Route(
            kind="compiled", name="suInfer", evidence="documented",
            sources=(Source("BirenTechnology/ModelZoo", "inference/suinfer/yolov5: pysuinfer_demo.py, README"),),
            module="pysuinfer", toolchain="suinfer", python=">=3.8,<3.11", shapes=("static",),
            options={
                "device": "pysuInferSession(device, log)", "shapes": "Build(onnx, shapes, …)", "artefact": "Init(file)",
            },
            notes=(
                Text("Packages exist for Python 3.8 and 3.10 and come from the maker alone.",
                     "软件包仅有 Python 3.8 和 3.10 版本，只能从厂商获得。"),
            ),
        ),
        Route(
            kind="framework", name="Paddle custom device", evidence="documented",
            sources=(Source("PaddlePaddle/PaddleCustomDevice", "backends/biren_gpu/README.md"),),
            target="supa", package="paddle_custom_supa", module="paddle", toolchain="paddle",
        ),
        Route(
            kind="framework", name="PyTorch (torch_br)", evidence="documented",
            sources=(Source("BirenTechnology/ModelZoo", "training/pytorch/cv/detection/yolov5_v6.0/README.md"),),
            target="supa", module="torch_br",
        ),
    ),
    container=Container(
        sources=(_PLUGIN,), devices=("biren",), environment={"SUPA_VISIBLE_DEVICES": "0"},
        toolkit="biren-container-toolkit, or CDI (/etc/cdi/biren.yaml)",
        notes=(
            Text("The maker's examples enlarge /dev/shm (shm_size) as well.",
                 "厂商示例还会增大 /dev/shm（shm_size）。"),
        ),
    ),
    sources=(_PLUGIN,),
)


def backend(host: Host = HERE) -> ChipBackend:
    """Biren's cards on this machine."""
    return ChipBackend(CHIP, host)
