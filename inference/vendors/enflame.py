"""Enflame 燧原: a provider built into the maker's ONNX Runtime, or models compiled by TopsInference."""

from __future__ import annotations

from typing import Final

from inference.adapters.chip import ChipBackend
from inference.chip import Chip, Container, Probe, Route, Source, Text, Visible
from inference.host import HERE, Host

_ZOO: Final = Source("EnflameTechnology/ModelZoo", "inference_models/onnx: run_onnx.py; common/utils.py")
_IMAGE: Final = Source("flagos-ai/build-infra", "docs/content/en/runtime/enflame-tops1.10.6.md")
_INT64: Final = Text("int64 and uint64 are emulated or rejected: compute in int32 or float32.",
                     "int64 和 uint64 以仿真方式运行或被拒绝：请用 int32 或 float32 计算。")
_WIDE: Final = ("int64", "uint64")
_OLD: Final = Text("The public samples are of 2023 (i1x, i2x); whether today's cards take this route is not known.",
                   "公开示例为 2023 年（i1x、i2x）；当前产品是否支持此路线未见文档。")

CHIP: Final = Chip(
    vendor="enflame",
    maker=Text("Enflame", "燧原科技"),
    models=("i1x", "i2x", "S60"),
    probe=Probe(nodes=("gcu{n}",), beside=("gcuctl",), pci_vendor=0x1E36),
    visible=Visible(container="ENFLAME_VISIBLE_DEVICES", process="TOPS_VISIBLE_DEVICES"),
    routes=(
        Route(
            kind="ort_legacy", name="ONNX Runtime with TopsInference", evidence="documented", sources=(_ZOO,),
            target="TopsInferenceExecutionProvider", package="Onnxruntime-TopsInference", shapes=("static",),
            rejects=_WIDE,
            precisions={"fp32": ({},)},
            options={
                "device": "device", "cluster": "cluster", "outputs": "output_names", "batch": "compiled_batchsize",
                "artefact_out": "export_executable", "artefact_in": "load_executable",
            },
            notes=(_OLD, _INT64),
        ),
        Route(
            kind="compiled", name="TopsInference 2.0", evidence="documented",
            sources=(Source("EnflameTechnology/tops_inference_sample", "python"),),
            module="TopsInference", toolchain="tops", shapes=("static",), rejects=_WIDE,
            precisions={
                "fp32": ({"flag": "KDEFAULT"},), "fp16": ({"flag": "KFP16"},), "mixed": ({"flag": "KFP16_MIX"},),
            },
            options={"device": "device(card, cluster)", "shapes": "set_input_shapes", "artefact": "save_executable"},
            notes=(_OLD, _INT64),
        ),
        Route(
            kind="framework", name="Paddle custom device", evidence="documented",
            sources=(Source("PaddlePaddle/PaddleCustomDevice", "backends/gcu/README.md"),),
            target="gcu", package="paddle_custom_gcu", module="paddle", toolchain="paddle", rejects=_WIDE,
            notes=(_INT64,),
        ),
        Route(
            kind="framework", name="PyTorch (torch_gcu)", evidence="documented",
            sources=(Source("EnflameTechnology/torch-gcu", "releases, v2.10.0"), _IMAGE),
            target="gcu", package="torch-gcu", module="torch_gcu", rejects=_WIDE, notes=(_INT64,),
        ),
    ),
    container=Container(
        sources=(_IMAGE,),
        environment={"ENFLAME_VISIBLE_DEVICES": "all", "TENCENT_VISIBLE_DEVICES": "all"},
        toolkit="tencent-container-toolkit >= 2.0.52",
        notes=(
            Text("This override needs the toolkit. Without it only a privileged container with all of /dev is "
                 "documented, which we do not ship.",
                 "此覆盖文件需要上述工具包。不用工具包时，文档仅给出特权容器并挂载整个 /dev 的方式，本项目不提供。"),
        ),
    ),
    sources=(
        Source("EnflameTechnology/gcushare", "config/topscloud.json, pkg/consts/const.go"),
        Source("pci.ids 2023.04.11", "1e36"),
    ),
)


def backend(host: Host = HERE) -> ChipBackend:
    """Enflame's cards on this machine."""
    return ChipBackend(CHIP, host)
