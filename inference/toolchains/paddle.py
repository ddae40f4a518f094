"""PaddlePaddle: a model is converted by X2Paddle and run by Paddle Inference, on the CPU or a maker's device.

Calls: PaddlePaddle/X2Paddle, README (`x2paddle.convert.onnx2paddle`); Paddle Inference, Python API (`Config`,
`enable_xpu`, `enable_custom_device`, `create_predictor`, `copy_from_cpu`, `copy_to_cpu`). On the CPU it is run in our
tests; devices of makers differ by the line that names them, and were never run by us.
"""

from __future__ import annotations

import importlib
import logging
from importlib import metadata
from pathlib import Path
from typing import Any

PROGRAM = "inference_model"


def about(options: dict[str, str]) -> dict[str, Any]:
    """Version, and the device; RuntimeError where Paddle was built without it."""
    paddle = importlib.import_module("paddle")
    target = options.get("target", "cpu")
    known = ["cpu", *(["xpu"] if paddle.is_compiled_with_xpu() else []), *paddle.device.get_all_custom_device_type()]
    if target not in known:
        message = f"this Paddle knows the devices {', '.join(known)}, not {target}"
        raise RuntimeError(message)
    return {"name": "paddle", "version": f"{paddle.__version__}, x2paddle {metadata.version('x2paddle')}",
            "soc": "" if target == "cpu" else target}  # fmt: skip


def compile_model(path: str, folder: str, asked: dict[str, Any]) -> list[list[Any]] | None:
    """Paddle's program and its weights. Raises what X2Paddle raises: for one, AssertionError on an operator it lacks.

    On the CPU every node is where it was asked for; which operators a custom device leaves to the CPU is not told.
    """
    logging.disable(logging.CRITICAL)
    convert = importlib.import_module("x2paddle.convert").onnx2paddle
    # The feedback would be a request to the maker's servers.
    convert(path, folder, convert_to_lite=False, disable_feedback=True)
    for left in Path(folder).iterdir():
        if left.is_file():
            left.unlink()
    if not any(Path(folder, PROGRAM).glob("model.*")):
        message = "x2paddle wrote no program"
        raise RuntimeError(message)
    return [[name, True] for name in asked["nodes"]] if asked["options"].get("target", "cpu") == "cpu" else None


class Loaded:
    """A program on a device."""

    def __init__(self, folder: str, asked: dict[str, Any]) -> None:
        """Raises RuntimeError and ValueError."""
        inference = importlib.import_module("paddle.inference")
        program = next(Path(folder, PROGRAM).glob("model.json"), Path(folder, PROGRAM, "model.pdmodel"))
        config = inference.Config(str(program), str(Path(folder, PROGRAM, "model.pdiparams")))
        target, number = asked["options"].get("target", "cpu"), int(asked["device"])
        if target == "cpu":
            config.disable_gpu()
            config.set_cpu_math_library_num_threads(int(asked["threads"]))
        elif target == "xpu":
            config.enable_xpu()
            config.set_xpu_device_id(number)
        else:
            config.enable_custom_device(target, number)
        config.disable_glog_info()
        self._made = inference.create_predictor(config)
        self._inputs = self._made.get_input_names()
        self._outputs = self._made.get_output_names()
        # X2Paddle puts a prefix before the names it was given.
        self._order = [_found(self._inputs, one["name"]) for one in asked["inputs"]]

    def run(self, values: list[Any]) -> list[Any]:
        """Outputs in the program's order, which is the graph's."""
        for name, value in zip(self._order, values):  # noqa: B905 - Python 3.8
            self._made.get_input_handle(name).copy_from_cpu(value)
        self._made.run()
        return [self._made.get_output_handle(name).copy_to_cpu() for name in self._outputs]

    def close(self) -> None:
        """Free it."""
        self._made = None


def _found(names: list[str], wanted: str) -> str:
    found = [one for one in names if one == wanted or one.endswith(f"_{wanted}")]
    if len(found) != 1:
        message = f"the program has the inputs {names}, {wanted} is not one of them"
        raise RuntimeError(message)
    return found[0]


def load(folder: str, asked: dict[str, Any]) -> Loaded:
    """Make the program ready."""
    return Loaded(folder, asked)
