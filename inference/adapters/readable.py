"""A model as a maker's ONNX Runtime reads it: converted where opset or IR version are beyond what the route takes."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import onnx

from inference import UnsupportedModelError
from inference.adapters import bucketing
from inference.graph import opset as opset_of
from inference.passes import PassError, opset

if TYPE_CHECKING:
    from collections.abc import Iterator

    from inference import Model
    from inference.chip import Route


@contextmanager
def readable(model: Model, route: Route) -> Iterator[Model]:
    """The model itself where the route reads it, else one that is there for as long as the context lasts.

    Its answers are held to the golden vectors by the check before a pipeline is activated, like any other's. Raises
    UnsupportedModelError where ONNX has no way to convert a node.
    """
    version = beyond(model.opset, route.opset)
    if version is None and (route.ir is None or model.ir_version <= route.ir):
        yield model
        return
    made = bucketing.read(model.path)
    onnx.load_external_data_for_model(made, str(model.path.parent))
    try:
        made = opset.apply(made, version=version, ir=route.ir)
    except PassError as error:
        lowest, highest = route.opset
        reads = f"opset {lowest or 1} to {highest or 'any'}" + (f", IR version {route.ir} at most" if route.ir else "")
        has = f"the model has opset {model.opset}, IR version {model.ir_version}"
        message = f"{route.name} reads {reads}; {has}, and {error}"
        raise UnsupportedModelError(message) from error
    with TemporaryDirectory(prefix="headrace-readable-") as folder:
        path = Path(folder, "model.onnx")
        try:
            onnx.save_model(made, path)
        except ValueError:
            # Beyond what one file may hold.
            onnx.save_model(made, path, save_as_external_data=True, location="weights.bin")
        yield replace(
            model, path=path, opset=opset_of(made), ir_version=made.ir_version, nodes=len(made.graph.node)
        )


def beyond(has: int, opsets: tuple[int | None, int | None]) -> int | None:
    """The opset to convert to, or None where it is within."""
    lowest, highest = opsets
    if has < (lowest or 0):
        return lowest
    return highest if highest is not None and has > highest else None
