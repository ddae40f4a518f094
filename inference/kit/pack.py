"""The kit's models and vectors in one file: an index in JSON, models as they are, arrays without pickling."""

from __future__ import annotations

import io
import json
import zipfile
from typing import IO, TYPE_CHECKING, Any, Dict, List, Tuple, Union  # noqa: UP035 - Python 3.8

import numpy as np

from . import Case, Graph, Question, Spec
from .suite import Material

if TYPE_CHECKING:
    from . import Json, Value

FORMAT = 1
_FIXED = (1980, 1, 1, 0, 0, 0)
"""The same material gives the same bytes."""


class PackError(Exception):
    """The file is no material of this kit."""


def _put(stored: Dict[str, Any], value: Value) -> Any:  # noqa: ANN401, UP006 - JSON
    """Note a value's arrays, and say where they are."""
    if value is None:
        return None
    if isinstance(value, (list, tuple)):
        return [_put(stored, one) for one in value]
    array = np.asarray(value)
    if array.dtype == object:
        array = array.astype(str)
        return {"text": _named(stored, array)}
    if array.dtype.kind not in "biufcSU":
        # Types of other packages: nobody can carry them, and the case says so.
        return {"other": str(array.dtype)}
    return _named(stored, array)


def _named(stored: Dict[str, Any], array: Any) -> str:  # noqa: ANN401, UP006 - an array
    name = f"a{len(stored)}"
    stored[name] = array
    return name


def _got(stored: Any, told: Any) -> Value:  # noqa: ANN401 - npz, JSON
    if told is None:
        return None
    if isinstance(told, list):
        return [_got(stored, one) for one in told]
    if isinstance(told, dict):
        return stored[told["text"]].astype(object) if "text" in told else None
    return stored[told]


def _graph(graph: Graph) -> Json:
    return {
        "name": graph.name, "nodes": graph.nodes, "opset": graph.opset, "ir_version": graph.ir_version,
        "inputs": [list(one) for one in graph.inputs], "outputs": [list(one) for one in graph.outputs],
    }


def _read_graph(told: Json, content: bytes) -> Graph:
    def specs(listed: List[Any]) -> Tuple[Spec, ...]:  # noqa: UP006 - Python 3.8
        return tuple(Spec(name, dtype, tuple(shape)) for name, dtype, shape in listed)

    return Graph(
        told["name"], content, specs(told["inputs"]), specs(told["outputs"]), told["nodes"], told["opset"],
        told["ir_version"],
    )


def _question(stored: Dict[str, Any], one: Question) -> Json:  # noqa: UP006 - Python 3.8
    return {
        "graph": _graph(one.graph), "precision": one.precision, "what": one.what, "batched": one.batched,
        "wide": one.wide,
        "inputs": {name: _put(stored, value) for name, value in one.inputs.items()},
        "outputs": {name: _put(stored, value) for name, value in one.outputs.items()},
        "tolerances": {name: list(pair) for name, pair in one.tolerances.items()},
    }


def write(material: Material, target: Union[str, IO[bytes]]) -> None:  # noqa: UP007 - Python 3.8
    """Put the material into a zip file."""
    stored: Dict[str, Any] = {}  # noqa: UP006 - Python 3.8
    models: List[bytes] = []  # noqa: UP006 - Python 3.8
    index: Json = {
        "format": FORMAT, "yardstick": material.yardstick,
        "right": None if material.right is None else sorted(material.right), "cases": [], "questions": [], "long": [],
        "foreign": None,
    }
    for case in material.cases:
        index["cases"].append({
            "graph": _graph(case.graph), "operator": case.operator, "rtol": case.rtol, "atol": case.atol,
            "kind": case.kind, "barred": case.barred,
            "vectors": [] if case.barred else [
                [[_put(stored, one) for one in part] for part in vector] for vector in case.vectors
            ],
        })  # fmt: skip
        models.append(b"" if case.barred else case.graph.content)
    for key, questions in (("questions", material.questions), ("long", material.long)):
        for one in questions:
            index[key].append(_question(stored, one))
            models.append(one.graph.content)
    if material.foreign is not None:
        index["foreign"] = _graph(material.foreign)
        models.append(material.foreign.content)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        _entry(archive, "index.json", json.dumps(index, separators=(",", ":")).encode())
        for number, content in enumerate(models):
            _entry(archive, f"models/{number}.onnx", content)
        for name, array in stored.items():
            held = io.BytesIO()
            np.lib.format.write_array(held, np.asarray(array), allow_pickle=False)
            _entry(archive, f"arrays/{name}.npy", held.getvalue())


def _entry(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name, _FIXED), content, zipfile.ZIP_DEFLATED)


class _Arrays:
    """The arrays of a pack, read when they are asked for."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - an array
        held = io.BytesIO(self._archive.read(f"arrays/{name}.npy"))
        return np.lib.format.read_array(held, allow_pickle=False)


def read(source: Union[str, IO[bytes]]) -> Material:  # noqa: UP007 - Python 3.8
    """The material of a zip file. Raises PackError."""
    try:
        with zipfile.ZipFile(source) as archive:
            return _read(archive)
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError, OSError) as error:
        message = f"the kit's material cannot be read: {error!r}"
        raise PackError(message) from error


def _read(archive: zipfile.ZipFile) -> Material:
    index, stored = json.loads(archive.read("index.json").decode()), _Arrays(archive)
    if index["format"] != FORMAT:
        message = "format {}".format(index["format"])
        raise ValueError(message)
    numbers = iter(range(len(archive.namelist())))

    def graph(told: Json) -> Graph:
        return _read_graph(told, archive.read(f"models/{next(numbers)}.onnx"))

    cases = [_case(stored, told, graph(told["graph"])) for told in index["cases"]]
    questions, long = (
        [_read_question(stored, told, graph(told["graph"])) for told in index[key]] for key in ("questions", "long")
    )
    foreign = None if index["foreign"] is None else graph(index["foreign"])
    return Material(cases, questions, long, foreign, index["right"], index["yardstick"])


def _case(stored: _Arrays, told: Json, graph: Graph) -> Case:
    vectors = tuple(
        (tuple(_got(stored, one) for one in given), tuple(_got(stored, one) for one in expected))
        for given, expected in told["vectors"]
    )
    return Case(graph, told["operator"], vectors, told["rtol"], told["atol"], told["kind"], told["barred"])


def _read_question(stored: _Arrays, told: Json, graph: Graph) -> Question:
    def values(part: Json) -> Dict[str, Value]:  # noqa: UP006 - Python 3.8
        return {name: _got(stored, one) for name, one in part.items()}

    return Question(
        graph, values(told["inputs"]), values(told["outputs"]), told["precision"], told["what"], told["batched"],
        told["wide"], {name: (pair[0], pair[1]) for name, pair in told["tolerances"].items()},
    )
