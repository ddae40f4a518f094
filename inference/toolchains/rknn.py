"""Rockchip's RKNN-Toolkit2 (compiler, and a simulator of the NPU on x86) and its lite runtime on the board.

Calls: airockchip/rknn-toolkit2, rknn-toolkit2/examples/onnx/*/test.py (`config`, `load_onnx`, `build`, `export_rknn`,
`init_runtime`, `inference`), rknn-toolkit-lite2/examples/resnet18/test.py (`load_rknn`, `init_runtime`, `inference`).
Compiler and simulator are run in our tests; the lite runtime is written to the sample and was never run by us.

The option `simulate` chooses the simulator. It takes no .rknn file ("use 'load_xxx' & 'build' instead"), so an artefact
of it holds the model and what ranges were found by, and a session on the simulator builds once more.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import os
import re
import shutil
import sys
import tempfile
import types
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any, Callable, Iterator  # noqa: UP035 - Python 3.8

import numpy as np

MODEL, ARTEFACT, LOG, FEEDS = "model.onnx", "model.rknn", "build.log", "calibration.npz"
MOVES = ("Reshape", "Transpose", "exDataConvert", "InputOperator", "OutputOperator")
"""What the compiler itself puts between layers and at the border, to move values and to lay them out anew."""
LAYER = re.compile(r"\] (\d+) +(\w+) +\w+ +(NPU|CPU|GPU) .* \w+:(\S+) *$")
"""A row of the compiler's Network Layer Information Table: number, operator, target, name."""


def _kept() -> Any:  # noqa: ANN401 - a decorator
    """Stands for torch.no_grad, with which functions are marked that are never called."""
    return lambda function: function


def _torch() -> None:
    """Let the toolkit be imported without PyTorch, which it needs for PyTorch's own models alone: 4 GB stay away.

    The maker's `gdq` quantisation would need it, and is never asked for.
    """
    if "torch" in sys.modules or importlib.util.find_spec("torch") is not None:
        return
    torch: Any = types.ModuleType("torch")
    torch.nn = types.ModuleType("torch.nn")
    torch.__path__ = []
    torch.no_grad = _kept
    torch.nn.Module = object
    for name, module in (("torch", torch), ("torch.nn", torch.nn)):
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        sys.modules[name] = module


def _toolkit() -> Any:  # noqa: ANN401 - the maker's class
    _torch()
    return importlib.import_module("rknn.api").RKNN


def _lite() -> Any:  # noqa: ANN401 - the maker's class
    return importlib.import_module("rknnlite.api").RKNNLite


def _soc(options: dict[str, str]) -> str:
    """The chip to compile for: as asked, else as the board's device tree says."""
    if options.get("soc"):
        return options["soc"]
    tree = Path("/proc/device-tree/compatible")
    found = re.findall(r"rockchip,(rk\d+)", tree.read_text(errors="replace")) if tree.exists() else []
    if not found:
        message = "this is no board of Rockchip, and no chip was named"
        raise RuntimeError(message)
    return str(found[-1])


def about(options: dict[str, str]) -> dict[str, Any]:
    """The simulator, or the board's runtime; and the chip."""
    if options.get("simulate"):
        _toolkit()
        return {"name": "rknn-toolkit2", "version": f"{metadata.version('rknn-toolkit2')}, simulator",
                "soc": _soc(options)}  # fmt: skip
    _lite()
    if importlib.util.find_spec("rknn") is None:
        message = "rknn-toolkit2 is missing, which compiles models on the board: pip install rknn-toolkit2"
        raise ModuleNotFoundError(message)
    return {"name": "rknn-toolkit-lite2", "version": metadata.version("rknn-toolkit-lite2"), "soc": _soc(options)}


@contextmanager
def _heard(log: Path) -> Iterator[None]:
    """What this process prints goes into a file: the compiler's table comes from its C++, on file descriptor 1."""
    kept = os.dup(1)
    with log.open("wb") as file:
        os.dup2(file.fileno(), 1)
        try:
            yield
        finally:
            os.dup2(kept, 1)
            os.close(kept)


def _listed(feeds: str, folder: Path, asked: dict[str, Any]) -> str:
    """Feeds to find ranges by as the compiler reads them: a line of .npy files each, in the order of the inputs."""
    lines = []
    with np.load(feeds, allow_pickle=False) as stored:
        for number in range(len(stored.files) // len(asked["inputs"])):
            files = [folder / f"{number}_{one['name']}.npy" for one in asked["inputs"]]
            for file, one in zip(files, asked["inputs"]):  # noqa: B905 - Python 3.8
                np.save(str(file), stored[f"{number}/{one['name']}"])
            lines.append(" ".join(map(str, files)))
    target = folder / "dataset.txt"
    target.write_text("\n".join(lines))
    return str(target)


def _built(path: str, asked: dict[str, Any], *, told: bool, feeds: str = "") -> Any:  # noqa: ANN401 - the maker's
    """The model, built for the chip. Raises RuntimeError with what the compiler said. `told`: prints its tables.

    `feeds`: to find ranges by where it computes in int8.
    """
    with tempfile.TemporaryDirectory(prefix="headrace-rknn-") as folder:
        more = {"dataset": _listed(feeds, Path(folder), asked)} if feeds else {}
        return _steps(path, asked, told=told, build=dict(more, do_quantization=bool(feeds)))


def _steps(path: str, asked: dict[str, Any], *, told: bool, build: dict[str, Any]) -> Any:  # noqa: ANN401 - the maker's
    made = _toolkit()(verbose=told)
    made.config(target_platform=_soc(asked["options"]))
    steps: list[tuple[str, Callable[[], int]]] = [
        ("load", lambda: int(made.load_onnx(model=path))), ("build", lambda: int(made.build(**build))),
    ]
    for name, step in steps:
        try:
            status = step()
        except ValueError as error:
            # Its message is a traceback; the last line says what is wrong.
            message = f"{name}: {str(error).strip().splitlines()[-1]}"
            raise RuntimeError(message) from error
        if status != 0:
            message = f"{name} answered {status}"
            raise RuntimeError(message)
    return made


def compile_model(path: str, folder: str, asked: dict[str, Any]) -> list[list[Any]] | None:
    """The .rknn and the model it was made of; layers and whether they are on the NPU, by the compiler's own table."""
    if asked["precision"] not in ("fp16", "int8"):
        message = f"it computes in fp16 or int8, not in {asked['precision']}"
        raise ValueError(message)
    if any(one["dtype"] != "float32" for one in (*asked["inputs"], *asked["outputs"])):
        message = "its runtime gives and takes float32 alone: add a Cast to the graph"
        raise ValueError(message)
    if not all(one["shape"] for one in asked["inputs"]):
        message = "its runtime takes no scalars: give the input a dimension"
        raise ValueError(message)
    log, feeds = Path(folder, LOG), asked["calibration"] if asked["precision"] == "int8" else ""
    with _heard(log):
        made = _built(path, asked, told=True, feeds=feeds)
    if made.export_rknn(str(Path(folder, ARTEFACT))) != 0:
        message = "the artefact was not written"
        raise RuntimeError(message)
    made.release()
    if asked["options"].get("simulate"):
        for what, name in ((path, MODEL), (feeds, FEEDS)):
            if what:
                shutil.copyfile(what, str(Path(folder, name)))
    found = layers(log.read_text(errors="replace"), asked["nodes"])
    log.unlink()
    return found


def layers(log: str, nodes: list[str]) -> list[list[Any]] | None:
    """Each layer of the table, but for moves that the compiler added by itself; None without a table."""
    rows = [found.groups() for found in map(LAYER.search, log.splitlines()) if found]
    own = [(operator, target, name) for _, operator, target, name in rows
           if operator not in MOVES or name.partition("#")[0] in nodes]  # fmt: skip
    return [[f"{operator} {name} on {target}", target == "NPU"] for operator, target, name in own] if rows else None


class _Made:
    """A model that the maker's runtime has taken."""

    _made: Any

    def run(self, values: list[Any]) -> list[Any]:
        """Outputs in the model's order. ValueError and RuntimeError where the maker's call fails."""
        # "nchw": as the model has it. Without it, values of four dimensions would have to be turned.
        found = self._made.inference(inputs=values, data_format=["nchw"] * len(values))
        if found is None:
            message = "inference gave no outputs"
            raise RuntimeError(message)
        return list(found)

    def close(self) -> None:
        """Free it."""
        self._made.release()


class Simulated(_Made):
    """A model on the simulator."""

    def __init__(self, folder: str, asked: dict[str, Any]) -> None:
        """Builds it again."""
        feeds = Path(folder, FEEDS)
        self._made = _built(str(Path(folder, MODEL)), asked, told=False, feeds=str(feeds) if feeds.exists() else "")
        if self._made.init_runtime() != 0:
            message = "the simulator did not start"
            raise RuntimeError(message)


class Board(_Made):
    """An .rknn file on the NPU of this board."""

    def __init__(self, folder: str) -> None:
        """Raises RuntimeError."""
        self._made = _lite()()
        for name, code in (("load_rknn", lambda: self._made.load_rknn(str(Path(folder, ARTEFACT)))),
                           ("init_runtime", self._made.init_runtime)):  # fmt: skip
            status = code()
            if status != 0:
                message = f"{name} answered {status}"
                raise RuntimeError(message)


def load(folder: str, asked: dict[str, Any]) -> Simulated | Board:
    """On the simulator or the board."""
    return Simulated(folder, asked) if asked["options"].get("simulate") else Board(folder)
