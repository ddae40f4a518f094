"""PaddlePaddle on the CPU: a model converted by X2Paddle, in an engine of its own environment.

It is here for what it proves: the custom devices of Ascend, Enflame, Iluvatar, MetaX and others, and Kunlunxin's own,
are the same code with another device's name.
"""

from __future__ import annotations

from typing import Final

from inference.adapters.compiled import CompiledBackend, Kit
from inference.chip import Route, Source
from inference.vendors.cpu import name

ROUTE: Final = Route(
    kind="framework", name="Paddle and X2Paddle", evidence="verified-ci",
    sources=(Source("paddlepaddle 3.3.1, x2paddle 1.6.0", "tried"),), target="cpu", package="paddlepaddle",
    toolchain="paddle", shapes=("dynamic",), precisions={"fp32": ({},)},
)

KIT: Final = Kit(
    vendor="paddle", toolchain=ROUTE.toolchain, evidence=ROUTE.evidence, describe=lambda: f"Paddle, {name()}",
    options={"target": ROUTE.target}, shapes=("dynamic",), opsets=ROUTE.opset, ir=ROUTE.ir,
)


def backend() -> CompiledBackend:
    """Paddle's CPU, in an engine whose environment has paddlepaddle and x2paddle."""
    return CompiledBackend(KIT)
