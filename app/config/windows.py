"""How the windows of a pipeline are cut: as its plant file says, else as its model package does, else as the model."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.plant.schemas import WindowEntry
    from inference import TensorSpec

EVENTS: Final[Mapping[str, Mapping[str, tuple[str, str]]]] = {
    "trigger": {"trigger": ("the tag that ends it", "trigger: part_counter")},
    "between": {"start": ("the tag that starts it", "start: cycle_running"), "stop": ("", "")},
}
"""By kind of window, the tags that make it begin and end: what must be said of them, and how."""
PACKAGED: Final = {"hop": "grid", "trigger": "trigger", "between": "between", "message": "message"}
"""Kinds of a package's windows, and what they are here."""
CHANNELS: Final = (1, 3, 4)
"""Of images: by them it is seen which dimension of a model they are."""


class Cut(NamedTuple):
    """How windows are cut, with every default filled in."""

    kind: str
    step_s: float
    length: int
    hop: int
    layout: str
    trigger: str | None = None
    stop: str | None = None
    shape: tuple[int, ...] = ()


def kind(given: WindowEntry, package: Mapping[str, Any]) -> str:
    """As the file says, as the tags do that it names, else as the package does."""
    if given.kind is not None:
        return given.kind
    if given.trigger:
        return "trigger"
    return "between" if given.start else PACKAGED.get(str(package.get("kind")), "grid")


def of_messages(chosen: TensorSpec, layout: str | None, shape: Sequence[int] | None) -> Cut | str:
    """Windows of messages that the model's input takes, or why there are none."""
    dims = chosen.shape[1:]
    layout = layout or _layout(dims)
    if layout is None:
        return f"the input {chosen.name!r} has the dimensions {_said(dims)}: say which are what, layout: NHWC or NCHW"
    if shape is None:
        if None in dims:
            return f"the input {chosen.name!r} takes {_said(dims)}: say which, window: {{shape: […]}}"
        natural = _natural(tuple(size or 0 for size in dims), layout)
    else:
        natural = tuple(shape)
    made = _made(natural, layout)
    if len(made) != len(dims) or any(has not in {None, makes} for has, makes in zip(dims, made, strict=True)):
        given = f"messages of {list(natural)} make {_said(made)} ({layout})"
        return f"the input {chosen.name!r} takes {_said(dims)}, {given}"
    return Cut("message", 1.0, prod(natural), 1, layout, shape=natural)


def _layout(dims: Sequence[int | None]) -> str | None:
    """What the model's dimensions after the first can only be."""
    if len(dims) in {1, 2}:
        return ("NC", "NTC")[len(dims) - 1]
    if len(dims) != len("HWC"):
        return None
    return "NHWC" if dims[-1] in CHANNELS else "NCHW" if dims[0] in CHANNELS else None


def _natural(dims: tuple[int, ...], layout: str) -> tuple[int, ...]:
    """The shape of a message: channels last; none where a waveform has one."""
    moved = (*dims[1:], dims[0]) if layout in {"NCT", "NCHW"} else dims
    return moved[:-1] if layout in {"NTC", "NCT"} and moved[-1] == 1 else moved


def _made(shape: tuple[int, ...], layout: str) -> tuple[int, ...]:
    """The dimensions after the first that a message makes."""
    if layout == "NC":
        return (prod(shape),)
    axes = len(layout) - 1
    whole = (*shape, *(1,) * (axes - len(shape)))
    return (whole[-1], *whole[:-1]) if layout in {"NCT", "NCHW"} else whole


def _said(dims: Sequence[int | None]) -> str:
    return "[N, " + ", ".join("any" if one is None else str(one) for one in dims) + "]"
