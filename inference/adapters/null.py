"""A device that computes nothing: right names, types and shapes around values that say so, for dry runs of the path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from inference import Absent, Device, Placement
from inference.adapters.batching import stated
from inference.adapters.session import CheckedSession
from inference.adapters.tensors import numpy_dtype

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inference import Model, Options, Session, Tensor, TensorSpec


def nothing(spec: TensorSpec, rows: int) -> Tensor:
    """NaN for floats, the lowest number for integers, None for what has neither; free inner dimensions count 1."""
    dtype: np.dtype[Any] = numpy_dtype(spec.dtype)
    shape = tuple((rows if axis == 0 else 1) if size is None else size for axis, size in enumerate(spec.shape))
    if dtype.kind == "f":
        return np.full(shape, np.nan, dtype)
    if dtype.kind in "iu":
        return np.full(shape, np.iinfo(dtype).min, dtype)
    return np.full((rows,) if spec.dtype in ("map", "sequence") else shape, None, object)


def _rows(feeds: dict[str, Tensor], batched: Sequence[str]) -> int:
    return len(feeds[batched[0]]) if batched else 1


class NullBackend:
    """The dry-run device. It places no node, so a check of it never passes; name it to get it."""

    def __init__(self, vendor: str, evidence: str) -> None:
        """Nothing is loaded."""
        self._vendor = vendor
        self._evidence = evidence

    def devices(self) -> tuple[Device, ...]:
        """Always one."""
        return (Device(self._vendor, self._vendor, "dry run: computes nothing", "null", self._evidence),)

    def absent(self) -> Absent | None:
        """Never absent."""
        return None

    def prepare(self, model: Model, device: Device, options: Options) -> Session:  # noqa: ARG002 - nothing to make ready
        """Any model; nothing of it is read."""
        batching = stated(model)

        def call(feeds: dict[str, Tensor]) -> list[Tensor]:
            rows = _rows(feeds, batching.batched)
            return [nothing(spec, rows) for spec in model.outputs]

        placement = Placement(model.nodes, 0, ("all",), f"{device.id} computes nothing")
        outputs = [spec.name for spec in model.outputs]
        return CheckedSession(call, model.inputs, outputs, placement, batching)
