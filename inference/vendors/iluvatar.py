"""Iluvatar CoreX 天数智芯: models compiled by ixRT."""

from __future__ import annotations

from typing import Final

from inference.adapters.chip import ChipBackend
from inference.chip import Chip, Container, Probe, Route, Source, Text, Visible
from inference.host import HERE, Host

_SAMPLES: Final = "Deep-Spark/DeepSparkInference"
_IMAGE: Final = Source("flagos-ai/build-infra", "docs/content/en/runtime/iluvatar-corex4.4.0.md")

CHIP: Final = Chip(
    vendor="iluvatar",
    maker=Text("Iluvatar CoreX", "天数智芯"),
    models=("BI-V150",),
    probe=Probe(nodes=("iluvatar{n}",), pci_vendor=0x1E3E),
    visible=Visible(container="IX_VISIBLE_DEVICES", process="CUDA_VISIBLE_DEVICES"),
    routes=(
        Route(
            kind="compiled", name="ixRT", evidence="documented",
            sources=(
                Source(_SAMPLES, "models/cv/classification/ixrt_common: build_engine.py, inference.py"),
                Source("Deep-Spark/iluvatar-corex-ixrt", "README.md"),
            ),
            package="ixrt", module="ixrt", toolchain="ixrt", shapes=("profile", "static"),
            precisions={
                "fp32": ({},), "fp16": ({"flag": "BuilderFlag.FP16"},), "int8": ({"flag": "BuilderFlag.INT8"},),
            },
            options={"shapes": "--minShapes, --optShapes, --maxShapes", "artefact": "--save_engine"},
            recipe=("pip3 install ixrt",),
            notes=(
                Text("The package comes from the maker's index; its release must be that of the SDK and the driver.",
                     "软件包来自厂商软件源；版本须与 SDK 和驱动一致。"),
                Text("Python imports it as tensorrt, with the bindings of TensorRT 8.",
                     "在 Python 中以 tensorrt 名义导入，采用 TensorRT 8 的绑定接口。"),
                Text("A public fp16 script keeps 22 layers of a model in fp32 against overflow: check golden vectors.",
                     "公开的 fp16 脚本为防溢出将某模型的 22 层保留为 fp32：务必核对黄金样本。"),
            ),
        ),
        Route(
            kind="compiled", name="IGIE (TVM)", evidence="documented", sources=(Source(_SAMPLES, "models, IGIE"),),
            target="iluvatar", module="tvm",
        ),
        Route(
            kind="framework", name="Paddle custom device", evidence="documented",
            sources=(Source("PaddlePaddle/PaddleCustomDevice", "backends/iluvatar_gpu/README.md"),),
            target="iluvatar_gpu", module="paddle", toolchain="paddle",
        ),
        Route(
            kind="framework", name="PyTorch (+corex)", evidence="documented", sources=(_IMAGE,),
            target="cuda", package="torch", module="torch",
        ),
    ),
    container=Container(
        sources=(_IMAGE, Source("Deep-Spark/ix-container-toolkit", "README")),
        devices=("iluvatar0", "itrctl"), volumes=("/usr/local/corex",), environment={"CUDA_VISIBLE_DEVICES": "0"},
        toolkit="ix-container-toolkit >= 1.1.0 (runtime iluvatar)",
        notes=(
            Text("/dev/itrctl exists from driver 4.4.0 on: leave its line out before.",
                 "/dev/itrctl 自驱动 4.4.0 起才有：更早的驱动请删去该行。"),
        ),
    ),
    sources=(
        Source("gpustack/runtime", "gpustack_runtime/detector/iluvatar.py"),
        Source("Deep-Spark/ix-device-plugin", "pkg/dpm/plugin.go"),
    ),
)


def backend(host: Host = HERE) -> ChipBackend:
    """Iluvatar's cards on this machine."""
    return ChipBackend(CHIP, host)
