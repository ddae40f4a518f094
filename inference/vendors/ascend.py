"""Huawei Ascend 昇腾: a provider built into the maker's ONNX Runtime, or models compiled by ATC."""

from __future__ import annotations

from typing import Final

from inference.adapters.chip import ChipBackend
from inference.chip import Chip, Container, Probe, Route, Source, Text, Visible
from inference.host import HERE, Host

_TOOLKIT: Final = ("/usr/local/Ascend/ascend-toolkit/latest/lib64",)
_SET_ENV: Final = ". /usr/local/Ascend/ascend-toolkit/set_env.sh"
_PROVIDER: Final = Source("onnxruntime.ai", "Execution Providers / CANN")
_ATC: Final = Source("hiascend.com, CANN documentation", "ATC: --precision_mode, --precision_mode_v2, --framework")
_IMAGE: Final = Source("flagos-ai/build-infra", "docs/content/en/runtime/ascend-cann9.0.0.md")

CHIP: Final = Chip(
    vendor="ascend",
    maker=Text("Huawei Ascend", "华为昇腾"),
    models=("Ascend 310P", "Ascend 910B"),
    probe=Probe(
        nodes=("davinci{n}",), beside=("davinci_manager", "devmm_svm", "hisi_hdc"), pci_vendor=0x19E5,
    ),
    visible=Visible(container="ASCEND_VISIBLE_DEVICES", process="ASCEND_RT_VISIBLE_DEVICES"),
    routes=(
        Route(
            kind="ort_legacy", name="ONNX Runtime with CANN", evidence="documented",
            sources=(
                _PROVIDER, _ATC,
                Source("microsoft/onnxruntime", "core/providers/cann/cann_execution_provider_info.cc @38170d0"),
                Source("onnxruntime-cann 1.24.4", "package metadata"),
            ),
            target="CANNExecutionProvider", package="onnxruntime-cann", libraries=("libascendcl.so",), folders=_TOOLKIT,
            python=">=3.11", onnxruntime="==1.24.4", numpy="<2", opset=(None, 25), ir=13,
            shapes=("dynamic", "bucket"),
            precisions={
                "fp32": ({"precision_mode_v2": "origin"}, {"precision_mode": "must_keep_origin_dtype"}),
                "fp16": ({"precision_mode_v2": "fp16"}, {"precision_mode": "force_fp16"}),
                "mixed": ({"precision_mode_v2": "mixed_float16"}, {"precision_mode": "allow_mix_precision"}),
            },
            options={
                "device": "device_id", "memory_bytes": "npu_mem_limit", "graph": "enable_cann_graph",
                "batches": "dynamic_batch_size", "images": "dynamic_image_size", "dimensions": "dynamic_dims",
            },
            recipe=(
                "python3.11 -m venv .venv-ascend",
                ".venv-ascend/bin/pip install 'onnxruntime-cann==1.24.4' 'numpy<2'",
                _SET_ENV,
            ),
            notes=(
                Text("It lists its provider also where CANN is not installed: only the library and the node tell.",
                     "即使未安装 CANN，它也会列出该执行提供程序：只有库文件和设备节点才能说明问题。"),
                Text("ONNX Runtime 1.24.4 refuses opset 26 and IR version 14; what CANN itself takes may be less.",
                     "ONNX Runtime 1.24.4 拒绝 opset 26 和 IR 版本 14；CANN 本身支持的可能更低。"),
                Text("Never beside onnxruntime in one environment: both write the same folder, the last one wins.",
                     "切勿与 onnxruntime 装在同一环境：两者写入同一目录，后装者生效。"),
                Text("Each new input shape is compiled once; the gears dynamic_* exclude one another.",
                     "每个新的输入形状都要编译一次；dynamic_* 各档位选项互斥。"),
                Text("CANN prefers fp16 unless told otherwise, so fp32 is always asked for by name.",
                     "未指定时 CANN 优先使用 fp16，因此 fp32 总是显式指定。"),
                Text("Which CANN version 1.24.4 needs is not documented; the table ends at 1.22.1 with CANN 8.2.0.",
                     "1.24.4 需要哪个 CANN 版本未见文档；对照表止于 1.22.1 与 CANN 8.2.0。"),
            ),
        ),
        Route(
            kind="compiled", name="ATC and pyACL (.om)", evidence="documented",
            sources=(_ATC, Source("hiascend.com, CANN documentation", "pyACL: acl.mdl")),
            module="acl", toolchain="acl", libraries=("libascendcl.so",), folders=_TOOLKIT,
            shapes=("static", "bucket"),
            precisions={
                "fp32": ({"precision_mode_v2": "origin"}, {"precision_mode": "must_keep_origin_dtype"}),
                "fp16": ({"precision_mode_v2": "fp16"}, {"precision_mode": "force_fp16"}),
                "mixed": ({"precision_mode_v2": "mixed_float16"}, {"precision_mode": "allow_mix_precision"}),
            },
            options={"device": "acl.rt.set_device", "shapes": "--input_shape", "soc": "--soc_version"},
            recipe=(_SET_ENV,),
            notes=(
                Text("allow_mix_precision has cost nearly all accuracy on a public model: check golden vectors.",
                     "公开案例中 allow_mix_precision 曾使精度几乎全失：务必核对黄金样本。"),
            ),
        ),
        Route(
            kind="compiled", name="MindSpore Lite", evidence="documented",
            sources=(Source("mindspore.cn, MindSpore Lite", "Context.target, Model.build_from_file"),),
            target="ascend", module="mindspore_lite",
        ),
        Route(
            kind="framework", name="Paddle custom device", evidence="documented",
            sources=(Source("PaddlePaddle/PaddleX", "multi_devices_use_guide"),), target="npu", module="paddle",
            toolchain="paddle",
        ),
        Route(
            kind="framework", name="PyTorch (torch_npu)", evidence="documented",
            sources=(Source("torch-npu 2.14.0", "package metadata"),),
            target="npu", package="torch-npu", module="torch_npu",
            notes=(
                Text("Without CANN it breaks import torch, unless TORCH_DEVICE_BACKEND_AUTOLOAD=0.",
                     "未安装 CANN 时会使 import torch 失败，除非设置 TORCH_DEVICE_BACKEND_AUTOLOAD=0。"),
            ),
        ),
    ),
    container=Container(
        sources=(_IMAGE,),
        devices=("davinci0", "davinci_manager", "devmm_svm", "hisi_hdc"),
        volumes=("/usr/local/Ascend/driver", "/usr/local/dcmi", "/usr/local/sbin/npu-smi"),
        environment={"ASCEND_RT_VISIBLE_DEVICES": "0"},
        toolkit="Ascend-docker-runtime >= 6.0.RC3",
    ),
    sources=(
        Source("gpustack/runtime", "gpustack_runtime/detector/ascend.py, envs.py"),
        Source("Project-HAMi/ascend-device-plugin", "internal/server/allocate.go"),
    ),
)


def backend(host: Host = HERE) -> ChipBackend:
    """Huawei's chips on this machine."""
    return ChipBackend(CHIP, host)
