"""Moore Threads 摩尔线程: a provider plugin for stock ONNX Runtime."""

from __future__ import annotations

from typing import Final

from inference.adapters.chip import ChipBackend
from inference.chip import Chip, Container, Probe, Route, Source, Text, Visible
from inference.host import HERE, Host

_PLUGIN: Final = "MooreThreads/onnxruntime-musa"
_IMAGE: Final = Source("flagos-ai/build-infra", "docs/content/en/runtime/mthreads-musa5.2.0.md")

_FLOATS: Final = ("float16", "float32", "float64", "bfloat16")
_COMMON: Final = ("float16", "float32", "float64")
_COUNTS: Final = ("uint32", "uint64", "int32", "int64")
_SMALL: Final = ("uint8", "uint16", "int8", "int16")
_NUMBERS: Final = (*_FLOATS, *_COUNTS, *_SMALL)
_ANY: Final = (*_NUMBERS, "bool")


def _each(types: tuple[str, ...], operators: str) -> dict[str, tuple[str, ...]]:
    return dict.fromkeys(operators.split(), types)


_HAS: Final = {
    **_each(_ANY, "Cast Concat Expand Flatten Gather GatherElements Identity Pad Reshape ReverseSequence "
                  "ScatterElements ScatterND Shape Slice Split Squeeze Tile Transpose Unsqueeze"),
    **_each(_NUMBERS, "Abs Add Div Mul Sign Sub"),
    **_each((*_FLOATS, *_COUNTS), "Greater GreaterOrEqual Less LessOrEqual Max Min"),
    **_each(_FLOATS, "Erf Exp Gemm IsNaN MatMul ReduceSumSquare Relu Sigmoid Softmax Softplus Sqrt Sum Tanh "
                     "com.microsoft:FusedGemm com.microsoft:FusedMatMul"),
    **_each(_COMMON, "BatchNormalization Ceil Floor GlobalAveragePool GlobalMaxPool Log Reciprocal Round"),
    **_each((*_FLOATS, "int32", "int64"), "Pow ReduceProd ReduceSum"),
    **_each(("float32",), "Conv Einsum LayerNormalization com.microsoft:Attention com.microsoft:MultiHeadAttention"),
    **_each(("bool",), "And If Not Or Where"),
    **_each((*_COMMON, "int32", "int64"), "TopK"),
    **_each((*_FLOATS, "int32"), "ReduceL2 ReduceMean"),
    **_each(("int32", "int64"), "Mod OneHot Unique"),
    **_each((), "RandomUniform RandomUniformLike"),
    "BitwiseAnd": (*_COUNTS, *_SMALL), "Clip": (*_COMMON, "int8", "uint8", "int64", "uint64"),
    "ConstantOfShape": ("int64",), "CumSum": (*_COUNTS, "float32", "float64"),
    "Equal": (*_FLOATS, *_COUNTS, "bool"), "GatherND": (*_FLOATS, "bool", "int64"),
    "LeakyRelu": _FLOATS, "Loop": ("int64",),
    "MaxPool": (*_COMMON, "int8", "uint8"), "Neg": (*_FLOATS, "int8", "int16", "int32", "int64"),
    "NonZero": ("bool", "uint8", "int32", "int64", "float16", "float32"), "PRelu": _FLOATS,
    "Range": ("int16", "int32", "int64", "float32", "float64"),
    "ReduceMax": (*_FLOATS, "int8", "uint8", "int32", "int64"),
}

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
            has=_HAS,
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
            toolchain="paddle",
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
