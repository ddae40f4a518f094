"""Cambricon: MagicMind parses and builds a model, and runs it through an engine, a context and a queue.

Written to Cambricon/magicmind_cloud, buildin/python_common: framework_parser.py, model_process.py, mm_runner.py. Never
run by us: it is tested against a transcript.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

MODEL = "model.mm"
PRECISIONS = {"fp32": "force_float32", "fp16": "force_float16"}


def _runtime() -> Any:  # noqa: ANN401 - it has no types
    return importlib.import_module("magicmind.python.runtime")


def _right(name: str, status: Any) -> None:  # noqa: ANN401 - the maker's Status
    if not status.ok():
        message = f"{name} failed: {status}"
        raise RuntimeError(message)


def about(_options: dict[str, str]) -> dict[str, Any]:
    """The cards."""
    mm = _runtime()
    with mm.System() as system:
        count = int(system.device_count())
    version = getattr(mm, "__version__", "")
    return {"name": "MagicMind", "devices": count, **({"version": version} if version else {"file": mm.__file__})}


def compile_model(path: str, folder: str, asked: dict[str, Any]) -> None:
    """The model file, for these shapes. Where layers run is not told."""
    mm = _runtime()
    parser = importlib.import_module("magicmind.python.runtime.parser").Parser(mm.ModelKind.kOnnx)
    network = mm.Network()
    _right("Parser.parse", parser.parse(network, path))
    for number, one in enumerate(asked["inputs"]):
        _right("set_dimension", network.get_input(number).set_dimension(mm.Dims(tuple(one["shape"]))))
    config = mm.BuilderConfig()
    told = {"precision_config": {"precision_mode": PRECISIONS[asked["precision"]]}}
    _right("BuilderConfig.parse_from_string", config.parse_from_string(json.dumps(told)))
    built = mm.Builder().build_model("model", network, config)
    if built is None:
        message = "Builder.build_model built nothing"
        raise RuntimeError(message)
    _right("Model.serialize_to_file", built.serialize_to_file(str(Path(folder, MODEL))))


class Loaded:
    """A model on a card."""

    def __init__(self, folder: str, asked: dict[str, Any]) -> None:
        """Raises RuntimeError, naming the call."""
        mm = _runtime()
        self._model = mm.Model()
        self._model.deserialize_from_file(str(Path(folder, MODEL)))
        self._card = mm.Device()
        self._card.id = int(asked["device"])
        _right("Device.active", self._card.active())
        config = mm.Model.EngineConfig()
        config.device_type = "MLU"
        self._engine = self._model.create_i_engine(config)
        self._context = self._engine.create_i_context()
        self._queue = self._card.create_queue()
        self._inputs = self._context.create_inputs()

    def run(self, values: list[Any]) -> list[Any]:
        """Outputs in the model's order. RuntimeError, naming the call."""
        for place, value in zip(self._inputs, values):  # noqa: B905 - Python 3.8
            place.from_numpy(value)
            place.to(self._card)
        answers: list[Any] = []
        _right("enqueue", self._context.enqueue(self._inputs, answers, self._queue))
        _right("queue.sync", self._queue.sync())
        return [one.asnumpy() for one in answers]

    def close(self) -> None:
        """Let go of it, in the order of the sample."""
        self._inputs = self._context = self._engine = self._model = self._queue = self._card = None


def load(folder: str, asked: dict[str, Any]) -> Loaded:
    """On the card of that number."""
    return Loaded(folder, asked)
