"""MetaX 沐曦: a provider built into the maker's ONNX Runtime."""

from __future__ import annotations

from typing import Final

from inference.adapters.chip import ChipBackend
from inference.chip import Chip, Container, Probe, Route, Source, Text, Visible
from inference.host import HERE, Host

_IMAGE: Final = Source("flagos-ai/build-infra", "docs/content/en/runtime/metax-maca3.8.1.3.md")

CHIP: Final = Chip(
    vendor="metax",
    maker=Text("MetaX", "沐曦"),
    models=("C500", "C550"),
    probe=Probe(nodes=("dri/renderD{n}",), beside=("mxcd",), pci_vendor=0x9999),
    visible=Visible(process="MACA_VISIBLE_DEVICES"),
    routes=(
        Route(
            kind="ort_legacy", name="MacaRT (ONNX Runtime with MACA)", evidence="documented",
            sources=(
                Source("MetaX-MACA/Onnxruntime", "onnxruntime_c_api.h (ORT_API_VERSION 12), provider factory @1acd81f"),
                Source("FlagOpen/FlagPerf", "inference/inference_engine/metax/macart.py"),
            ),
            target="MACAExecutionProvider", package="onnxruntime-gpu 1.12.0+mc", onnxruntime="==1.12.0",
            opset=(None, 17), ir=8, precisions={"fp32": ({},)}, options={"device": "device_id"},
            recipe=(
                "dpkg -i onnxruntime-maca_*.deb",
                "python3 -m venv .venv-metax",
                ".venv-metax/bin/pip install onnxruntime_gpu-1.12.0+mc*.whl",
            ),
            notes=(
                Text("ONNX Runtime 1.12 cannot tell where nodes run, so all count as fallen back to the CPU.",
                     "ONNX Runtime 1.12 无法说明节点的运行位置，因此一律视为已回落到 CPU。"),
                Text("Driver, SDK and this package must be of one release.", "驱动、SDK 与此软件包须属同一发行版本。"),
            ),
        ),
        Route(
            kind="compiled", name="mcTVM", evidence="documented",
            sources=(Source("MetaX-MACA", "mcTVM"),), module="tvm",
        ),
        Route(
            kind="framework", name="Paddle custom device", evidence="documented",
            sources=(Source("PaddlePaddle/PaddleCustomDevice", "backends/metax_gpu/README.md"),),
            target="metax_gpu", module="paddle", toolchain="paddle",
        ),
        Route(
            kind="framework", name="mcPyTorch (+metax)", evidence="documented", sources=(_IMAGE,),
            target="cuda", package="torch", module="torch",
            notes=(
                Text("It presents itself as cuda with compute capability 8.0.", "它以 cuda、计算能力 8.0 的身份出现。"),
            ),
        ),
    ),
    container=Container(
        sources=(_IMAGE,), devices=("mxcd", "dri"), group_add=("video",), environment={"MACA_VISIBLE_DEVICES": "0"},
        toolkit="metax-docker >= 0.15.3",
    ),
    sources=(
        Source("gpustack/runtime", "gpustack_runtime/detector/metax.py"),
        Source("MetaX-MACA/vLLM-metax", "docs/getting_started/installation/maca.md"),
    ),
)


def backend(host: Host = HERE) -> ChipBackend:
    """MetaX's cards on this machine."""
    return ChipBackend(CHIP, host)
