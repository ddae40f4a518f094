"""Values go to the card and come back."""

from __future__ import annotations

import types
from typing import Any

import numpy as np
from recorder import note

from cuda import cudart

CUresult = types.SimpleNamespace(CUDA_SUCCESS=0)


def cuMemcpyHtoD(place: int, value: Any, size: int) -> tuple[int]:
    """To the card."""
    note("cuMemcpyHtoD", size)
    cudart.memory[place][:size] = value.tobytes()
    return (0,)


def cuMemcpyDtoH(value: Any, place: int, size: int) -> tuple[int]:
    """From the card."""
    note("cuMemcpyDtoH", size)
    value[...] = np.frombuffer(bytes(cudart.memory[place][:size]), value.dtype).reshape(value.shape)
    return (0,)
