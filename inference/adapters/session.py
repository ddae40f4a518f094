"""The session every adapter hands out: feeds checked, false batches sliced, outputs by name."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

from inference import DeviceLostError, InputError
from inference.adapters.tensors import Border, join

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from inference import Placement, Tensor, TensorSpec
    from inference.adapters.batching import Batching, Call
    from inference.adapters.turns import Turns


class CheckedSession:
    """A model made ready on a device. Not thread-safe: one session per thread."""

    def __init__(
        self, call: Call, inputs: Sequence[TensorSpec], outputs: Sequence[str], placement: Placement, batching: Batching
    ) -> None:
        """What an adapter has made ready."""
        self.placement = placement
        self.batching = batching
        self.turns: Turns | None = None
        """Of sessions that may not be freed while another one runs."""
        self._call: Call | None = call
        self._outputs = tuple(outputs)
        self._border = Border(batching.inputs(inputs))

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute every output; n rows in, n rows out, also where the model's own batch is false.

        Raises InputError for feeds that do not fit and DeviceLostError once closed or when the device fails. Values
        that are not finite are returned as they are: `adapters.tensors.finite` finds them.
        """
        call = self._call
        if call is None:
            message = "this session is closed: prepare a new one"
            raise DeviceLostError(message)
        ready = self._border.check(feeds)
        outputs = call(ready) if self.batching.mode != "sliced" else self._sliced(call, ready)
        return dict(zip(self._outputs, outputs, strict=True))

    def close(self) -> None:
        """Free the runtime's memory. Safe to call twice."""
        with self.turns or nullcontext():
            self._call = None

    def _sliced(self, call: Call, ready: dict[str, Tensor]) -> list[Tensor]:
        batched, size = self.batching.batched, self.batching.size
        counts = {len(ready[name]) for name in batched}
        rows = counts.pop()
        if counts or rows == 0 or rows % size:
            message = f"the model runs {size} row(s) at a time: give every input the same multiple of it, at least one"
            raise InputError(message)
        if rows == size:
            return call(ready)
        return join([
            call({name: value[at:at + size] if name in batched else value for name, value in ready.items()})
            for at in range(0, rows, size)
        ])
