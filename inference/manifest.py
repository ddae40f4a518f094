"""The contract a model package states in `model.yaml`: parsed strictly, every mistake named at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from inference import InvalidModelError, TensorSpec

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Resample = Literal["last", "linear", "mean", "min", "max", "samples"]
Seconds = Annotated[float, Field(gt=0)]
Line = Annotated[str, Field(max_length=400)]

_DEEPEST: Final = 20
_MOST_VALUES: Final = 20_000


class _Strict(BaseModel):
    """Unknown keys are refused and nothing is converted: `1.0` is no string and `"5"` no number."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def _column(value: object) -> object:
    return {"tag": value} if isinstance(value, str) else value


class Column(_Strict):
    """One column of an input: the tag that fills it. May be written as the bare tag name."""

    tag: Annotated[str, Field(min_length=1, max_length=200)]
    unit: Line = ""
    meaning: Line = ""


class Tensor(_Strict):
    """What a person knows of a tensor; `dtype` and `shape` are optional and must agree with the graph."""

    name: Annotated[str, Field(min_length=1)]
    dtype: str | None = None
    shape: list[int | None] | None = None
    unit: Line = ""
    meaning: Line = ""


class Input(Tensor):
    """An input; `columns` names what stands in its last dimension, in order."""

    columns: list[Annotated[Column, BeforeValidator(_column)]] | None = None


class Output(Tensor):
    """An output; above `limit` it alarms, and `classes` names what its integers mean."""

    limit: float | None = None
    classes: list[str] | None = None


class HopWindow(_Strict):
    """A window on a grid: `length` steps of `step_s`, a new one every `hop_s`."""

    kind: Literal["hop"]
    step_s: Seconds
    length: Annotated[int, Field(ge=1)]
    hop_s: Seconds
    resample: Resample = "last"


class TriggerWindow(_Strict):
    """A window that ends when the tag `trigger` changes: a part counter, a cycle bit."""

    kind: Literal["trigger"]
    trigger: str
    step_s: Seconds
    length: Annotated[int, Field(ge=1)]
    resample: Resample = "last"


class BetweenWindow(_Strict):
    """A window from the event `start` to the event `stop`, brought to `length` points."""

    kind: Literal["between"]
    start: str
    stop: str
    length: Annotated[int, Field(ge=1)]
    resample: Resample = "linear"


class MessageWindow(_Strict):
    """One message is one window: an image, a waveform."""

    kind: Literal["message"]


class Quality(_Strict):
    """What an input's status does to the window (DESIGN: require, accept, hold, interpolate, refuse)."""

    uncertain: Literal["accept", "refuse"] = "accept"
    bad: Literal["refuse", "hold", "interpolate"] = "refuse"
    hold_s: Annotated[float, Field(ge=0)] | None = None
    max_gap_s: Seconds | None = None

    @model_validator(mode="after")
    def _hold_is_bounded(self) -> Self:
        if (self.bad == "hold") != bool(self.hold_s):
            message = "hold_s belongs to `bad: hold`: give both, or neither (0 is as good as none)"
            raise ValueError(message)
        return self


class Manifest(_Strict):
    """The whole of `model.yaml`."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=100)]
    version: Annotated[str, Field(min_length=1, max_length=60)]
    description: Annotated[str, Field(max_length=4000)] = ""
    licence: Line = ""
    author: Line = ""
    inputs: Annotated[list[Input], Field(min_length=1)]
    outputs: Annotated[list[Output], Field(min_length=1)]
    window: Annotated[
        HopWindow | TriggerWindow | BetweenWindow | MessageWindow, Field(discriminator="kind")
    ] | None = None
    quality: Quality | None = None
    batch: Literal["rows", "whole"] = "rows"
    """`rows`: the first free dimension counts independent rows. `whole`: it is something else, e.g. time."""


class _Loader(yaml.SafeLoader):
    """Plain YAML without keys given twice, of which one would be lost without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - the base's signature
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                message = f"the key {key.value!r} is given twice: keep one"
                raise yaml.MarkedYAMLError(problem=message, problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _size(node: yaml.Node, known: dict[int, int], depth: int = 0) -> int:
    """Values below a node with every alias written out; aliases of aliases multiply, so a small file can be huge."""
    if depth > _DEEPEST:
        message = f"values are nested deeper than {_DEEPEST} or within themselves"
        raise yaml.MarkedYAMLError(problem=message, problem_mark=node.start_mark)
    if id(node) not in known:
        inner = node.value if isinstance(node, yaml.CollectionNode) else []
        parts = [part for each in inner for part in (each if isinstance(each, tuple) else (each,))]
        known[id(node)] = 1 + sum(_size(part, known, depth + 1) for part in parts)
    return known[id(node)]


def _plain(text: str) -> object:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _size(node, {}) > _MOST_VALUES:
            message = f"more than {_MOST_VALUES} values once its aliases are written out"
            raise yaml.MarkedYAMLError(problem=message, problem_mark=node.start_mark)
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _place(location: Sequence[str | int]) -> str:
    """`inputs[0].columns[3].tag` of pydantic's tuple, without the names of union members."""
    kinds = {"hop", "trigger", "between", "message"}
    parts = [p for i, p in enumerate(location) if not (i == 1 and location[0] == "window" and p in kinds)]
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    return text.lstrip(".") or "model.yaml"


def _sentence(error: ErrorDetails) -> str:
    place = _place(error["loc"])
    if error["type"] == "extra_forbidden":
        return f"model.yaml: {place}: unknown key; correct its spelling or remove it"
    if error["type"] == "missing":
        return f"model.yaml: {place}: missing; add it"
    given = repr(error["input"])[:60]
    quote = " (quote it)" if error["type"] == "string_type" and isinstance(error["input"], int | float) else ""
    return f"model.yaml: {place}: {error['msg']}{quote}, not {given}"


def parse(text: str) -> Manifest:
    """Parse `model.yaml`. Raises InvalidModelError, whose message holds one line for each mistake."""
    try:
        return Manifest.model_validate(_plain(text))
    except ValidationError as error:
        raise InvalidModelError("\n".join(_sentence(each) for each in error.errors())) from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        message = f"model.yaml is no YAML we can read: {' '.join(str(error).split())[:400]}"
        raise InvalidModelError(message) from error


def _narrowed(kind: str, spec: TensorSpec, stated: Tensor) -> tuple[TensorSpec, list[str]]:
    """The graph's spec with what the manifest adds, and how the two contradict each other."""
    problems = []
    if stated.dtype is not None and stated.dtype != spec.dtype:
        problems.append(f"{kind} {spec.name!r} is {spec.dtype} in the graph but {stated.dtype} in model.yaml")
    shape = spec.shape
    if stated.shape is not None:
        pairs = zip(stated.shape, spec.shape, strict=False)
        fits = len(stated.shape) == len(spec.shape) and all(b is None or a in (b, None) for a, b in pairs)
        if fits:
            shape = tuple(b if a is None else a for a, b in zip(stated.shape, spec.shape, strict=True))
        else:
            problems.append(
                f"{kind} {spec.name!r} has shape {list(spec.shape)} in the graph but {stated.shape} in model.yaml"
            )
    return replace(spec, shape=shape, unit=stated.unit, meaning=stated.meaning), problems


def _columns(spec: TensorSpec, stated: Input, length: int) -> list[str]:
    """A last dimension counts either the columns or, in a flat window, the columns times the steps."""
    if stated.columns is None or not spec.shape or spec.shape[-1] is None:
        return []
    count = len(stated.columns)
    if spec.shape[-1] in (count, count * length):
        return []
    return [f"input {spec.name!r} has {spec.shape[-1]} values a row but model.yaml names {count} columns"]


def _merge(
    kind: str, specs: Sequence[TensorSpec], stated: Sequence[Tensor]
) -> tuple[tuple[TensorSpec, ...], list[str]]:
    named = {each.name: each for each in stated}
    merged = []
    problems = [f"model.yaml names the {kind} {name!r}, which the graph does not have; it has: "
                f"{', '.join(spec.name for spec in specs)}" for name in named if name not in {s.name for s in specs}]
    if len(named) != len(stated):
        problems.append(f"model.yaml names an {kind} twice")
    for spec in specs:
        if spec.name not in named:
            problems.append(f"model.yaml does not describe the {kind} {spec.name!r}: add it")
            continue
        one, wrong = _narrowed(kind, spec, named[spec.name])
        merged.append(one)
        problems += wrong
    return tuple(merged), problems


def apply(
    manifest: Manifest, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Units, meanings and narrower shapes put onto the graph's tensors. InvalidModelError lists every contradiction."""
    merged_in, problems = _merge("input", inputs, manifest.inputs)
    merged_out, wrong = _merge("output", outputs, manifest.outputs)
    problems += wrong
    length = manifest.window.length if manifest.window is not None and manifest.window.kind != "message" else 1
    by_name = {each.name: each for each in manifest.inputs}
    for spec in merged_in:
        problems += _columns(spec, by_name[spec.name], length)
    if problems:
        raise InvalidModelError("\n".join(problems))
    return merged_in, merged_out
