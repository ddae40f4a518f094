"""Iluvatar CoreX: ixRT builds a plan and executes it, in the shape of an older TensorRT.

Written to Deep-Spark/DeepSparkInference, models/cv/classification/ixrt_common: build_engine.py, common.py, inference.py
(`tensorrt` is the maker's shim over `ixrt`; memory by `cuda`). Never run by us: it is tested against a transcript.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np

PLAN = "model.engine"


def _right(name: str, error: Any, wanted: Any) -> None:  # noqa: ANN401 - enumerations of the maker's
    if error != wanted:
        message = f"{name} answered {error}"
        raise RuntimeError(message)


def _logger(tensorrt: Any) -> Any:  # noqa: ANN401 - the maker's
    return tensorrt.Logger(tensorrt.Logger.WARNING)


def about(_options: dict[str, str]) -> dict[str, Any]:
    """The version, and how many cards this process may see."""
    tensorrt = importlib.import_module("tensorrt")
    ixrt = importlib.import_module("ixrt")
    cudart = importlib.import_module("cuda.cudart")
    error, count = cudart.cudaGetDeviceCount()
    _right("cudaGetDeviceCount", error, cudart.cudaError_t.cudaSuccess)
    version = getattr(ixrt, "__version__", "") or getattr(tensorrt, "__version__", "")
    return {"name": "ixRT", "devices": int(count), **({"version": version} if version else {"file": ixrt.__file__})}


def compile_model(path: str, folder: str, asked: dict[str, Any]) -> list[list[Any]]:
    """The plan, and its layers: a plan runs on the card as a whole, what it lacks is refused by the parser."""
    if asked["precision"] not in ("fp32", "fp16"):
        message = f"it is asked for fp32 or fp16: no public sample of its maker shows {asked['precision']} from feeds"
        raise ValueError(message)
    tensorrt = importlib.import_module("tensorrt")
    logger = _logger(tensorrt)
    builder = tensorrt.Builder(logger)
    network = builder.create_network(1 << int(tensorrt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH))
    config = builder.create_builder_config()
    parser = tensorrt.OnnxParser(network, logger)
    if not parser.parse_from_file(path):
        message = "ixRT's parser does not take the model"
        raise RuntimeError(message)
    if asked["precision"] == "fp16":
        config.set_flag(tensorrt.BuilderFlag.FP16)
    plan = builder.build_serialized_network(network, config)
    if not plan:
        message = "ixRT built no plan"
        raise RuntimeError(message)
    Path(folder, PLAN).write_bytes(plan)
    return [[network.get_layer(number).name, True] for number in range(network.num_layers)]


class Loaded:
    """A plan with its memory on the card."""

    def __init__(self, folder: str, asked: dict[str, Any]) -> None:
        """Raises RuntimeError, naming the call."""
        tensorrt = importlib.import_module("tensorrt")
        self._cuda, self._cudart = importlib.import_module("cuda.cuda"), importlib.import_module("cuda.cudart")
        self._fine = self._cudart.cudaError_t.cudaSuccess
        error, = self._cudart.cudaSetDevice(int(asked["device"]))
        _right("cudaSetDevice", error, self._fine)
        engine = tensorrt.Runtime(_logger(tensorrt)).deserialize_cuda_engine(Path(folder, PLAN).read_bytes())
        self._engine, self._context = engine, engine.create_execution_context()
        self._asked, self._places = asked, []
        self._bound = {}
        for number in range(engine.num_bindings):
            dtype = np.dtype(tensorrt.nptype(engine.get_binding_dtype(number)))
            shape = list(engine.get_binding_shape(number))
            error, place = self._cudart.cudaMalloc(dtype.itemsize * int(np.prod(shape, dtype=np.int64)))
            _right("cudaMalloc", error, self._fine)
            self._places.append(place)
            self._bound[engine.get_binding_name(number)] = (place, dtype, shape)

    def run(self, values: list[Any]) -> list[Any]:
        """Outputs in the model's order. RuntimeError, naming the call."""
        fine = self._cuda.CUresult.CUDA_SUCCESS
        for one, value in zip(self._asked["inputs"], values):  # noqa: B905 - Python 3.8
            place, dtype, _ = self._bound[one["name"]]
            data = np.ascontiguousarray(value, dtype)
            error, = self._cuda.cuMemcpyHtoD(place, data, data.nbytes)
            _right("cuMemcpyHtoD", error, fine)
        if not self._context.execute_v2(self._places):
            message = "execute_v2 failed"
            raise RuntimeError(message)
        found = []
        for one in self._asked["outputs"]:
            place, dtype, shape = self._bound[one["name"]]
            answer = np.zeros(shape, dtype)
            error, = self._cuda.cuMemcpyDtoH(answer, place, answer.nbytes)
            _right("cuMemcpyDtoH", error, fine)
            found.append(answer)
        return found

    def close(self) -> None:
        """Free the card's memory."""
        for place in self._places:
            self._cudart.cudaFree(place)
        self._places = []


def load(folder: str, asked: dict[str, Any]) -> Loaded:
    """On the card of that number."""
    return Loaded(folder, asked)
