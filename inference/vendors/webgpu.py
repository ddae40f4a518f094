"""WebGPU through ONNX Runtime's plugin: any GPU with Vulkan, or the software one of Chromium for trying it out."""

from __future__ import annotations

import importlib.util
from typing import Final

from inference.adapters.ort import Provider
from inference.adapters.ort_plugin import Plugin, PluginBackend
from inference.adapters.plugin_probe import Wanted
from inference.chip import MissingPartError, Route, Source, Text

_MODULE: Final = "onnxruntime_ep_webgpu"
_NAME: Final = "WebGpuExecutionProvider"


def _wanted() -> Wanted:
    """Raises MissingPartError where the package is absent."""
    if importlib.util.find_spec(_MODULE) is None:
        raise MissingPartError(Text("no package onnxruntime-ep-webgpu: install the extra `webgpu`",
                                    "缺少软件包 onnxruntime-ep-webgpu：请安装 `webgpu`"))
    return Wanted(_NAME, module=_MODULE)


ROUTE: Final = Route(
    kind="ort_plugin", name="ONNX Runtime with the WebGPU plugin", evidence="verified-ci",
    sources=(
        Source("onnxruntime-ep-webgpu 0.4.0", "tried"),
        Source("microsoft/onnxruntime", "32561, 31627: runs of two sessions at once end the process"),
    ),
    target=_NAME, package="onnxruntime-ep-webgpu", module=_MODULE, opset=(7, 26), ir=13, rejects=("int64", "str"),
    shapes=("dynamic",), precisions={"fp32": ({},)}, one_at_a_time=True,
)

PLUGIN: Final = Plugin(
    Provider(
        vendor="webgpu", provider=_NAME, evidence=ROUTE.evidence, package=ROUTE.package,
        describe=lambda: "a Vulkan device through WebGPU", one_at_a_time=ROUTE.one_at_a_time,
    ),
    _wanted,
    no_device=Text("no Vulkan device; a software one: docs/how-to/second-device.md",
                   "没有 Vulkan 设备；软件实现：docs/zh-CN/how-to/second-device.md"),
)


def backend() -> PluginBackend:
    """What Vulkan shows of this machine."""
    return PluginBackend(PLUGIN)
