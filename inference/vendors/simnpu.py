"""SimNPU, a simulated accelerator of ours: the path of a provider plugin, tried without hardware."""

from __future__ import annotations

from typing import Final

from inference import simnpu
from inference.adapters.ort import Provider
from inference.adapters.ort_plugin import Plugin, PluginBackend
from inference.adapters.plugin_probe import Wanted
from inference.chip import Route, Source, Text

ROUTE: Final = Route(
    kind="ort_plugin", name="ONNX Runtime with SimNPU", evidence="simulated",
    sources=(Source("Headrace", "inference/simnpu: kernels.cc, compiler.cc"),),
    target=simnpu.NAME, package="g++",
    has=dict.fromkeys(
        ("Abs", "Add", "Div", "Exp", "Flatten", "Gemm", "Identity", "MatMul", "Mul", "Neg", "Relu", "Sigmoid",
         "Softmax", "Sqrt", "Sub", "Tanh"),
        ("float32",),
    ),
    opset=(7, 26), ir=13, shapes=("static", "bucket"),
    precisions={"fp32": ({"precision": "fp32"},), "fp16": ({"precision": "fp16"},)},
)

PLUGIN: Final = Plugin(
    Provider(
        vendor="simnpu", provider=simnpu.NAME, evidence=ROUTE.evidence, package=ROUTE.package,
        describe=lambda: "a simulator of Headrace's own, computed on the CPU",
        options={"static_only": "1"}, precisions=ROUTE.precisions or {}, shapes=ROUTE.shapes or (),
    ),
    lambda: Wanted(simnpu.NAME, library=str(simnpu.library())),
    no_device=Text("unplugged: see SIMNPU_UNPLUGGED and SIMNPU_DEVICES",
                   "已拔出：见 SIMNPU_UNPLUGGED 和 SIMNPU_DEVICES"),
    ahead=True,
)


def backend() -> PluginBackend:
    """Its devices, built from source where they are first asked for."""
    return PluginBackend(PLUGIN)
