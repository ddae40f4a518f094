"""SimNPU, a simulated accelerator of ours: the path of a provider plugin, tried without hardware."""

from __future__ import annotations

from typing import Final

from inference import simnpu
from inference.adapters.ort import Provider
from inference.adapters.ort_plugin import Plugin, PluginBackend
from inference.adapters.plugin_probe import Wanted
from inference.chip import Text

PLUGIN: Final = Plugin(
    Provider(
        vendor="simnpu", provider=simnpu.NAME, evidence="simulated", package="g++",
        describe=lambda: "a simulator of Headrace's own, computed on the CPU",
        precisions={"fp32": ({"precision": "fp32"},), "fp16": ({"precision": "fp16"},)},
    ),
    lambda: Wanted(simnpu.NAME, library=str(simnpu.library())),
    no_device=Text("unplugged: see SIMNPU_UNPLUGGED and SIMNPU_DEVICES",
                   "已拔出：见 SIMNPU_UNPLUGGED 和 SIMNPU_DEVICES"),
)


def backend() -> PluginBackend:
    """Its devices, built from source where they are first asked for."""
    return PluginBackend(PLUGIN)
