"""Moore Threads 摩尔线程: a provider plugin for stock ONNX Runtime."""

from __future__ import annotations

from typing import Final

from inference.adapters.chip import ChipBackend
from inference.chip import Chip, Container, Probe, Route, Source, Text, Visible
from inference.host import HERE, Host

_PLUGIN: Final = "MooreThreads/onnxruntime-musa"
_IMAGE: Final = Source("flagos-ai/build-infra", "docs/content/en/runtime/mthreads-musa5.2.0.md")

CHIP: Final = Chip(
    vendor="moorethreads",
    maker=Text("Moore Threads", "摩尔线程"),
    models=("MTT S5000",),
    probe=Probe(nodes=("mtgpu.{n}", "mtgpu{n}"), pci_vendor=0x1ED5),
    visible=Visible(container="MTHREADS_VISIBLE_DEVICES", process="MUSA_VISIBLE_DEVICES"),
    routes=(
        Route(
            kind="ort_plugin", name="ONNX Runtime with the MUSA plugin", evidence="documented",
            sources=(
                Source(_PLUGIN, "README.md; musa/ep/python/onnxruntime_musa/__init__.py"),
                Source(_PLUGIN, "musa/docs/supported_ops.md @297af92, @063eb06"),
            ),
            target="MUSAExecutionProvider", package="onnxruntime-ep-musa", module="onnxruntime_musa",
            libraries=("libmusart.so",), folders=("/usr/local/musa/lib", "/usr/local/musa/lib64"),
            python=">=3.11", onnxruntime="~=1.26.0", opset=(13, 17),
            lacks=(
                "ArgMax", "AveragePool", "ConvTranspose", "DequantizeLinear", "GRU", "Gelu", "HardSwish",
                "InstanceNormalization", "LSTM", "QuantizeLinear", "Resize",
            ),
            precisions={"fp32": ({"precision_policy": "strict"}, {})},
            options={
                "device": "device_id", "stream": "user_compute_stream", "one_stream": "use_ep_level_unified_stream",
                "copy_in_stream": "do_copy_in_default_stream",
            },
            recipe=(
                "./build.sh",
                "python3.11 -m venv .venv-moorethreads",
                ".venv-moorethreads/bin/pip install 'onnxruntime~=1.26.0' numpy",
                ".venv-moorethreads/bin/pip install --no-deps dist/onnxruntime_ep_musa-*.whl",
            ),
            notes=(
                Text("Built from the maker's source with MUSA 5.1.0 or 4.3.8 (build.sh); no package index has it.",
                     "用厂商源码和 MUSA 5.1.0 或 4.3.8 构建（build.sh）；没有软件源提供成品。"),
                Text("Conv is float32 only.", "Conv 仅支持 float32。"),
                Text("Its device is tied to the CPU in the list of hardware: choose it by its provider's name.",
                     "它在硬件列表中挂在 CPU 之下：须按执行提供程序名称选取。"),
            ),
        ),
        Route(
            kind="framework", name="PyTorch (torch_musa)", evidence="documented", sources=(_IMAGE,),
            target="musa", package="torch_musa", module="torch_musa",
        ),
        Route(
            kind="framework", name="Paddle (paddle_musa)", evidence="documented",
            sources=(Source("MooreThreads/paddle_musa"),), target="musa", module="paddle",
        ),
    ),
    container=Container(
        sources=(_IMAGE,), devices=("mtgpu.0", "dri"), volumes=("/usr/bin/mthreads-gmi",),
        environment={"MUSA_VISIBLE_DEVICES": "0"}, toolkit="MT Container Toolkit >= 2.1.0 (runtime mthreads)",
        notes=(
            Text("Some documents call the node /dev/mtgpu0: change the line then.",
                 "有的文档中设备节点名为 /dev/mtgpu0：届时请修改该行。"),
        ),
    ),
    sources=(
        Source("gpustack/runtime", "gpustack_runtime/detector/mthreads.py"),
        Source("pci.ids 2023.04.11", "1ed5"), _IMAGE,
    ),
)


def backend(host: Host = HERE) -> ChipBackend:
    """Moore Threads' cards on this machine."""
    return ChipBackend(CHIP, host)
