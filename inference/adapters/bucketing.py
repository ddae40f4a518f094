"""A free batch on a device of fixed shapes: a model made ready at several sizes, rows filled up to the next one."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from inference import UnsupportedModelError, buckets
from inference.adapters.batching import Batching, find, stated
from inference.adapters.session import CheckedSession
from inference.artefacts import NotKeptError

if TYPE_CHECKING:
    import onnx

    from inference import Model, Placement, Tensor
    from inference.adapters.batching import Call

OpenAt = Callable[[int], tuple["Call", "Placement"]]
"""Makes the model ready for exactly so many rows. Raises UnsupportedModelError."""
_ROWS: Final = "headrace_rows"


def needed(model: Model, shapes: Sequence[str]) -> bool:
    """Whether the model has free dimensions and the device none.

    Raises UnsupportedModelError where buckets do not help. Only the first dimension can be met: it counts rows, and
    rows can be filled up.
    """
    free = [(spec.name, axis) for spec in model.inputs for axis, size in enumerate(spec.shape) if size is None]
    if not free or {"dynamic", "profile"} & set(shapes):
        return False
    others = [f"{name!r} ({axis})" for name, axis in free if axis]
    if others:
        message = f"the device takes fixed shapes, and dimensions other than the first are free: {', '.join(others)}"
        raise UnsupportedModelError(message)
    if stated(model).mode == "whole":
        message = "the device takes fixed shapes, and the free first dimension of this model counts no rows"
        raise UnsupportedModelError(message)
    return True


def session(model: Model, sizes: Sequence[int], open_at: OpenAt) -> CheckedSession:
    """A session that takes any number of rows. Raises UnsupportedModelError.

    The rows are first tried alone and together, with rows filled in: a model whose rows know each other runs row by
    row, and so does one that takes a larger size for an error.
    """
    alone, placement = open_at(1)
    batched, reason = stated(model).batched, ""
    calls = {1: alone}
    try:
        calls |= {size: open_at(size)[0] for size in sizes if size > 1}
    except NotKeptError:
        raise
    except UnsupportedModelError as error:
        reason = f"it is refused with more rows than one: {error}"

    def call(feeds: dict[str, Tensor]) -> list[Tensor]:
        return buckets.run(calls, feeds, batched)

    outputs = [spec.name for spec in model.outputs]
    found = find(model, call) if not reason else Batching("sliced", reason=reason)
    if found.mode == "whole":
        message = f"the device takes fixed shapes, and {found.reason}: rows cannot be filled up"
        raise UnsupportedModelError(message)
    if found.mode == "rows" and not found.reason:
        told = f"filled up to {', '.join(map(str, calls))}"
        return CheckedSession(call, model.inputs, outputs, placement, Batching("rows", batched, reason=told))
    return CheckedSession(alone, model.inputs, outputs, placement, Batching("sliced", batched, reason=found.reason))


def first_dimensions(path: Path) -> tuple[str, ...]:
    """The symbols of the first dimensions, which can be fixed by name. One without stays free.

    Read from the file: a provider without free dimensions would make no session that could be asked for them.
    """
    shapes = _shapes(read(path))
    return tuple(dict.fromkeys(dims[0].dim_param for dims in shapes if len(dims) and dims[0].dim_param))


@contextmanager
def named(path: Path) -> Iterator[Path]:
    """The model, or a copy of it in which the free first dimensions have a name, as runtimes fix them by name only."""
    model = read(path)
    unnamed = [dims[0] for dims in _shapes(model) if len(dims) and dims[0].dim_value <= 0 and not dims[0].dim_param]
    if not unnamed:
        yield path
        return
    for dim in unnamed:
        dim.dim_param = _ROWS
    with TemporaryDirectory(prefix="headrace-rows-") as folder:
        for name in importlib.import_module("inference.graph").external_files(model):
            target = Path(folder, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path.parent / name, target)
        _onnx().save_model(model, Path(folder, path.name))
        yield Path(folder, path.name)


def _onnx() -> Any:  # noqa: ANN401 - a module
    """Loaded where a model has to be read: processes that only ask for devices do without."""
    return importlib.import_module("onnx")


def read(path: Path) -> onnx.ModelProto:
    """The graph without its external data. Raises UnsupportedModelError for what is none."""
    broken: type[Exception] = importlib.import_module("google.protobuf.message").DecodeError
    try:
        model: onnx.ModelProto = _onnx().load_model(path, load_external_data=False)
    except broken as error:
        message = "the file is no ONNX model, or it is cut off"
        raise UnsupportedModelError(message) from error
    return model


def _shapes(model: onnx.ModelProto) -> list[Sequence[onnx.TensorShapeProto.Dimension]]:
    weights = {one.name for one in model.graph.initializer}
    return [one.type.tensor_type.shape.dim for one in model.graph.input if one.name not in weights]
