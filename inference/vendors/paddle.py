"""PaddlePaddle on the CPU: a model converted by X2Paddle, in an engine of its own environment.

It is here for what it proves: the custom devices of Ascend, Enflame, Iluvatar, MetaX and others, and Kunlunxin's own,
are the same code with another device's name.
"""

from __future__ import annotations

from typing import Final

from inference.adapters.compiled import CompiledBackend, Kit
from inference.vendors.cpu import name

KIT: Final = Kit(
    vendor="paddle", toolchain="paddle", evidence="verified-ci", describe=lambda: f"Paddle, {name()}",
    options={"target": "cpu"}, shapes=("dynamic",), opsets=(7, 15), ir=10,
)


def backend() -> CompiledBackend:
    """Paddle's CPU, in an engine whose environment has paddlepaddle and x2paddle."""
    return CompiledBackend(KIT)
