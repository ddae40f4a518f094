"""Makers' compilers, runtimes and frameworks for the engine process: a model to an artefact, an artefact to a session.

Loaded by the engine from beside it; standard library and numpy, Python 3.8 upwards. What knows one maker's calls is a
file in `toolchains/`, loaded by its path when it is asked for. It has three functions:

`about(options)`: `name` of what is there, and its `version`, or the `file` of a module that tells none; `devices` (how
many, None for one without a number), `driver` and `soc` where known. Raises what importing the maker's module raises.
`compile_model(path, folder, asked)`: writes the artefact's files into a folder; what became of each layer as pairs of
a text and whether it is on the device, or None where that cannot be told.
`load(folder, asked)`: an object with `run(values)`, every output for the inputs in the model's order, and `close()`.

`asked` has `inputs` and `outputs` (name, dtype, shape), `precision`, `threads`, `device` (a number) and `options`; for
int8 also `calibration`, a file of arrays NUMBER/NAME: feeds of one run each, of these shapes.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import tempfile
import threading
import zipfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterator, Tuple, Type  # noqa: UP035 - Python 3.8

import numpy as np

if TYPE_CHECKING:
    from inference import engine_wire as wire
else:
    wire = sys.modules["engine_wire"]

FOLDER = Path(__file__).resolve().parent / "toolchains"
TOLD = "told.json"
_LOCK = threading.Lock()
_TURNS: Dict[str, threading.Lock] = {}  # noqa: UP006 - Python 3.8
"""Makers seldom say that their library may be called by several threads, so calls take turns."""


def chain(name: object) -> Any:  # noqa: ANN401 - a module
    """The toolchain of this name. Raises AbsentError when there is none."""
    path = FOLDER / f"{name}.py"
    if not isinstance(name, str) or not name.isidentifier() or not path.exists():
        message = f"this engine has no toolchain {name!r}"
        raise wire.AbsentError(message)
    known = f"headrace_toolchain_{name}"
    with _LOCK:
        if known not in sys.modules:
            spec = importlib.util.spec_from_file_location(known, str(path))
            if spec is None or spec.loader is None:
                raise wire.AbsentError(known)
            module = importlib.util.module_from_spec(spec)
            sys.modules[known] = module
            spec.loader.exec_module(module)
        _TURNS.setdefault(name, threading.Lock())
    return sys.modules[known]


@contextmanager
def said(kind: Type[wire.EngineError], doing: str) -> Iterator[None]:  # noqa: UP006 - Python 3.8
    """Whatever a maker's library raises, or ends the process with, as an error that says whose move it is."""
    try:
        yield
    except wire.EngineError:
        raise
    except MemoryError as error:
        message = f"{doing}: no memory left"
        raise wire.LostError(message) from error
    except (Exception, SystemExit) as error:
        message = f"{doing}: {type(error).__name__}: {' '.join(str(error).split())[-600:]}"
        raise kind(message) from error


def runtime(body: wire.Body) -> wire.Body:
    """What of a toolchain is there. Raises AbsentError."""
    maker = chain(body["toolchain"])
    with _TURNS[body["toolchain"]], said(wire.AbsentError, f"{body['toolchain']} cannot be used"):
        found = dict(maker.about(body["options"]))
    path = found.pop("file", None)
    if path is not None:
        stat = Path(path).stat()
        found["version"] = f"without a version, file of {stat.st_size} bytes, {stat.st_mtime_ns}"
    return dict({"devices": None, "driver": "", "soc": "", "numpy": np.__version__}, **found)


@contextmanager
def _aside() -> Iterator[None]:
    """In a folder that goes away: compilers leave files where they run. A compiler's process has nothing else to do."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="headrace-aside-") as folder:
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)


def compile_model(body: wire.Body) -> wire.Body:
    """Write the artefact of the model at `path` to `target`. Raises AbsentError, UnsupportedError, LostError."""
    maker = chain(body["toolchain"])
    with tempfile.TemporaryDirectory(prefix="headrace-compile-") as folder:
        refused = f"{body['toolchain']} does not compile it"
        with _TURNS[body["toolchain"]], said(wire.UnsupportedError, refused), _aside():
            parts = maker.compile_model(body["path"], folder, body["asked"])
        with zipfile.ZipFile(body["target"], "w", zipfile.ZIP_STORED) as packed:
            packed.writestr(TOLD, json.dumps({"parts": parts}))
            for path in sorted(Path(folder).rglob("*")):
                if path.is_file():
                    packed.write(str(path), str(path.relative_to(folder)))
    return {"parts": parts}


class Order:
    """One run. Makers' runtimes offer no way to cancel one, so a caller that gives up ends the engine."""

    def cancel(self) -> None:
        """Nothing that could be done."""


class Session:
    """An artefact made ready."""

    def __init__(self, name: str, loaded: Any, folder: Any, asked: wire.Body) -> None:  # noqa: ANN401 - a maker's
        """`loaded`: what the toolchain made; `folder` holds its files while it may read them."""
        self._name, self._loaded, self._folder, self._asked = name, loaded, folder, asked

    def order(self) -> Order:
        """For a run."""
        return Order()

    def run(self, _names: list[str], feeds: Dict[str, Any], _order: Order) -> list[Any]:  # noqa: UP006 - Python 3.8
        """Every output. Raises LostError, also for what does not look like the model's outputs."""
        values = [np.asarray(feeds[one["name"]], order="C") for one in self._asked["inputs"]]
        with _TURNS[self._name], said(wire.LostError, f"{self._name} failed at a run"):
            answers = list(self._loaded.run(values))
        wanted = self._asked["outputs"]
        if len(answers) != len(wanted):
            message = f"{self._name} answered {len(answers)} outputs, the model has {len(wanted)}"
            raise wire.LostError(message)
        return [fitting(self._name, answer, one) for answer, one in zip(answers, wanted)]  # noqa: B905 - Python 3.8

    def close(self) -> None:
        """Give it back to the runtime. Safe to call twice."""
        loaded, self._loaded = self._loaded, None
        if loaded is not None:
            with _TURNS[self._name], said(wire.LostError, f"{self._name} failed to let go"):
                loaded.close()
            self._folder.cleanup()


def fitting(name: str, answer: Any, wanted: wire.Body) -> Any:  # noqa: ANN401 - an array
    """An answer in the element type the model states. LostError where shape or kind are others: it is no answer."""
    value = np.asarray(answer)
    shape = wanted["shape"]
    sizes = len(shape) == value.ndim and all(a in (None, b) for a, b in zip(shape, value.shape))  # noqa: B905
    if not sizes or (value.dtype.name != wanted["dtype"] and {value.dtype.kind, wanted["dtype"][0]} != {"f"}):
        message = (f"{name} answered {value.dtype.name} {list(value.shape)} for an output that is "
                   f"{wanted['dtype']} {shape}")
        raise wire.LostError(message)
    return value.astype(wanted["dtype"], copy=False)


def open_session(body: wire.Body) -> Tuple[Session, wire.Body]:  # noqa: UP006 - Python 3.8
    """A session of an artefact, and what its compiler said of its layers. Raises AbsentError, UnsupportedError."""
    maker = chain(body["toolchain"])
    folder = tempfile.TemporaryDirectory(prefix="headrace-artefact-")
    try:
        with zipfile.ZipFile(body["path"]) as packed:
            told = json.loads(packed.read(TOLD).decode())
            packed.extractall(folder.name)
        with _TURNS[body["toolchain"]], said(wire.UnsupportedError, f"{body['toolchain']} does not load it"):
            loaded = maker.load(folder.name, body["asked"])
    except (zipfile.BadZipFile, KeyError, OSError) as error:
        folder.cleanup()
        message = f"the artefact is damaged: {error}"
        raise wire.UnsupportedError(message) from error
    except BaseException:
        folder.cleanup()
        raise
    return Session(body["toolchain"], loaded, folder, body["asked"]), {"parts": told["parts"]}
