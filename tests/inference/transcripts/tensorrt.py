"""A mock of ixRT's shim, after Deep-Spark/DeepSparkInference, ixrt_common: a plan with one input and one output."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import numpy as np
from cuda import cudart
from recorder import note

NetworkDefinitionCreationFlag = types.SimpleNamespace(EXPLICIT_BATCH=0)
BuilderFlag = types.SimpleNamespace(FP16="FP16")


class Logger:
    """Of a severity."""

    WARNING = 2

    def __init__(self, severity: int) -> None:
        """Nothing is logged."""
        note("Logger", severity)


def nptype(kind: Any) -> Any:
    """Numpy's name of an element type."""
    return kind


class _Network:
    num_layers = 1

    def get_layer(self, number: int) -> Any:
        """By its number."""
        return types.SimpleNamespace(name=f"layer {number}")


class _Config:
    def set_flag(self, flag: str) -> None:
        """The precision."""
        note("set_flag", flag)


class Builder:
    """Builds plans."""

    def __init__(self, _logger: Logger) -> None:
        """Nothing is built yet."""
        note("Builder")

    def create_network(self, flags: int) -> _Network:
        """An empty one."""
        note("create_network", flags)
        return _Network()

    def create_builder_config(self) -> _Config:
        """An empty one."""
        note("create_builder_config")
        return _Config()

    def build_serialized_network(self, _network: _Network, _config: _Config) -> bytes:
        """A plan."""
        note("build_serialized_network")
        return b"plan"


class OnnxParser:
    """Fills a network."""

    def __init__(self, _network: _Network, _logger: Logger) -> None:
        """Nothing is parsed yet."""
        note("OnnxParser")

    def parse_from_file(self, path: str) -> bool:
        """Whether it could."""
        note("parse_from_file", Path(path).name)
        return True


class _Context:
    def execute_v2(self, places: list[int]) -> bool:
        """Doubles the first into the second."""
        note("execute_v2", len(places))
        cudart.memory[places[1]][:] = (2 * np.frombuffer(bytes(cudart.memory[places[0]]), np.float32)).tobytes()
        return True


class _Engine:
    num_bindings = 2

    def get_binding_name(self, number: int) -> str:
        """The model's own, as it was compiled."""
        return ("v1", "v2")[number]

    def get_binding_dtype(self, _number: int) -> Any:
        """All alike."""
        return np.float32

    def get_binding_shape(self, _number: int) -> tuple[int, int]:
        """All alike."""
        return (2, 3)

    def create_execution_context(self) -> _Context:
        """For runs."""
        note("create_execution_context")
        return _Context()


class Runtime:
    """Loads plans."""

    def __init__(self, _logger: Logger) -> None:
        """Nothing is loaded yet."""
        note("Runtime")

    def deserialize_cuda_engine(self, plan: bytes) -> _Engine:
        """An engine."""
        note("deserialize_cuda_engine", plan.decode())
        return _Engine()
