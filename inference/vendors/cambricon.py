"""Cambricon 寒武纪: models compiled by MagicMind."""

from __future__ import annotations

from typing import Final

from inference.adapters.chip import ChipBackend
from inference.chip import Chip, Container, Probe, Route, Source, Text, Visible
from inference.host import HERE, Host

_IMAGE: Final = Source("flagos-ai/build-infra", "docs/content/en/runtime/cambricon-neuware4.7.2.md")

CHIP: Final = Chip(
    vendor="cambricon",
    maker=Text("Cambricon", "寒武纪"),
    models=("MLU590",),
    probe=Probe(nodes=("cambricon_dev{n}",), beside=("cambricon_ctl",), pci_vendor=0xCABC),
    visible=Visible(container="CAMBRICON_VISIBLE_DEVICES", process="MLU_VISIBLE_DEVICES"),
    routes=(
        Route(
            kind="compiled", name="MagicMind", evidence="documented",
            sources=(
                Source("Cambricon MagicMind", "magicmind.python.runtime, Parser"),
                Source("PaddlePaddle/Paddle-Lite", "cambricon_mlu: libraries of the maker's kit"),
            ),
            module="magicmind", toolchain="magicmind", libraries=("libmagicmind_runtime.so",),
            folders=("/usr/local/neuware/lib64",),
        ),
        Route(
            kind="framework", name="Paddle custom device", evidence="documented",
            sources=(Source("PaddlePaddle/PaddleX", "multi_devices_use_guide"),), target="mlu", module="paddle",
            toolchain="paddle",
        ),
        Route(
            kind="framework", name="PyTorch (torch_mlu)", evidence="documented", sources=(_IMAGE,),
            target="mlu", package="torch-mlu", module="torch_mlu",
        ),
    ),
    container=Container(
        sources=(_IMAGE,), devices=("cambricon_dev0", "cambricon_ctl"), environment={"MLU_VISIBLE_DEVICES": "0"},
    ),
    sources=(Source("gpustack/runtime", "gpustack_runtime/detector/cambricon.py, envs.py"),),
)


def backend(host: Host = HERE) -> ChipBackend:
    """Cambricon's cards on this machine."""
    return ChipBackend(CHIP, host)
