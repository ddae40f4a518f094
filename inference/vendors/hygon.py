"""Hygon 海光 DCU: frameworks built with DTK, or models compiled by MIGraphX."""

from __future__ import annotations

from typing import Final

from inference.adapters.chip import ChipBackend
from inference.chip import Chip, Container, Probe, Route, Source, Text, Visible
from inference.host import HERE, Host

_IMAGE: Final = Source("flagos-ai/build-infra", "docs/content/en/runtime/hygon-dtk26.04.md")

CHIP: Final = Chip(
    vendor="hygon",
    maker=Text("Hygon DCU", "海光 DCU"),
    models=("BW1000",),
    probe=Probe(nodes=("dri/renderD{n}",), beside=("kfd", "mkfd"), pci_vendor=0x1D94),
    visible=Visible(container="DCU_VISIBLE_DEVICES", process="HIP_VISIBLE_DEVICES"),
    routes=(
        Route(
            kind="framework", name="PyTorch (+das.dtk)", evidence="documented", sources=(_IMAGE,),
            target="cuda", package="torch", module="torch",
            notes=(
                Text("Only the maker's build of torch, +das.dtk, knows the card; it presents itself as cuda.",
                     "只有厂商构建的 torch（+das.dtk）识别该卡；它以 cuda 的身份出现。"),
            ),
        ),
        Route(
            kind="compiled", name="MIGraphX", evidence="documented",
            sources=(Source("Hygon DTK", "MIGraphX"),), module="migraphx",
        ),
        Route(
            kind="framework", name="Paddle (DCU)", evidence="documented",
            sources=(Source("PaddlePaddle/PaddleX", "multi_devices_use_guide"),), target="dcu", module="paddle",
        ),
    ),
    container=Container(
        sources=(_IMAGE,), devices=("kfd", "mkfd", "dri"), volumes=("/opt/hyhal",), group_add=("video",),
        security_opt=("seccomp=unconfined",), environment={"HIP_VISIBLE_DEVICES": "0"},
        toolkit="dcu-container-toolkit >= 1.3.0",
        notes=(
            Text("The documented recipe takes the system call filter away from the worker (seccomp=unconfined).",
                 "文档给出的方法会取消 worker 的系统调用过滤（seccomp=unconfined）。"),
        ),
    ),
    sources=(Source("gpustack/runtime", "gpustack_runtime/detector/hygon.py, envs.py"),),
)


def backend(host: Host = HERE) -> ChipBackend:
    """Hygon's cards on this machine."""
    return ChipBackend(CHIP, host)
