"""The messages of the Open Inference Protocol v2: an inference request parsed with limits, and its answer put together.

Source: Open Inference Protocol (REST), "Inference", and the binary tensor data extension: with the header
Inference-Header-Content-Length a body is so many bytes of JSON and then the raw tensors, in the order of the JSON.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec

from app.errors import Problem
from app.tensors import INPUT, OUTPUT, REQUEST, datatype_of, from_bytes, from_json, refused, to_bytes, to_json
from inference.adapters.tensors import numpy_dtype

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from inference import Tensor

MAX_JSON: Final = 8 * 2**20
"""Bytes: parsed numbers take many times as much memory."""
MAX_TENSORS: Final = 64
MAX_ID: Final = 200

Dimension = Annotated[int, msgspec.Meta(ge=1, le=2**31)]
Text = Annotated[str, msgspec.Meta(max_length=500)]


class Parameters(msgspec.Struct, frozen=True):
    """Those that mean something here; the protocol lets others be."""

    binary_data_size: Annotated[int, msgspec.Meta(ge=0)] | None = None
    binary_data: bool | None = None
    binary_data_output: bool = False
    shared_memory_region: str | None = None
    classification: int | None = None
    sequence_id: int | str | None = None


class Input(msgspec.Struct, frozen=True):
    """One tensor of a request."""

    name: Text
    datatype: str
    shape: list[Dimension]
    parameters: Parameters = Parameters()
    data: msgspec.Raw = msgspec.Raw()


class Output(msgspec.Struct, frozen=True):
    """One tensor that is asked for."""

    name: Text
    parameters: Parameters = Parameters()


class Request(msgspec.Struct, frozen=True):
    """An inference request without its raw tensors."""

    inputs: Annotated[list[Input], msgspec.Meta(max_length=MAX_TENSORS)]
    id: Annotated[str, msgspec.Meta(max_length=MAX_ID)] | None = None
    parameters: Parameters = Parameters()
    outputs: Annotated[list[Output], msgspec.Meta(max_length=MAX_TENSORS)] | None = None


_decode: Final = msgspec.json.Decoder(Request).decode
_encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a model that may be asked."""

    name: str
    version: str
    digest: str
    devices: tuple[str, ...]
    contract: Mapping[str, Any]

    @property
    def wanted(self) -> dict[str, str]:
        """Input to the protocol's datatype."""
        return {one["name"]: datatype_of(numpy_dtype(one["dtype"])) for one in self.contract["inputs"]}


@dataclass(frozen=True, slots=True)
class Asked:
    """A request ready to be run, and how its answer is wanted."""

    feeds: dict[str, Tensor]
    id: str | None
    outputs: Sequence[Output] | None
    """None: all of them."""
    binary: bool
    """Where an output does not say for itself."""


def parse(body: bytes, header_length: int | None, wanted: Mapping[str, str]) -> Asked:
    """A body as feeds. `header_length`: bytes of JSON before the raw tensors; `wanted`: input to the model's datatype.

    Problem 400 with what is wrong and where, 413 for too much JSON.
    """
    if header_length is not None and not 0 < header_length <= len(body):
        raise refused(REQUEST, f"Inference-Header-Content-Length is {header_length}, the body has {len(body)} bytes")
    split = len(body) if header_length is None else header_length
    if split > MAX_JSON:
        raise Problem(413, "too_large", f"the JSON has at most {MAX_JSON} bytes: send tensors in binary form")
    try:
        request = _decode(body if split == len(body) else memoryview(body)[:split])
    except (msgspec.DecodeError, RecursionError) as error:
        raise refused(REQUEST, f"the JSON is no inference request: {error}") from error
    if request.parameters.sequence_id:
        raise refused(REQUEST, "sequences are not offered here: each request stands for itself")
    raw = memoryview(body)[split:]
    feeds: dict[str, Tensor] = {}
    at = 0
    for one in request.inputs:
        _check(one, wanted, feeds)
        size = one.parameters.binary_data_size or 0
        feeds[one.name] = _tensor(one, raw[at : at + size])
        at += size
    if at != len(raw):
        raise refused(REQUEST, f"the inputs name {at} raw bytes, the body has {len(raw)}")
    return Asked(feeds, request.id, request.outputs, request.parameters.binary_data_output)


def _check(one: Input, wanted: Mapping[str, str], before: Mapping[str, Tensor]) -> None:
    datatype = wanted.get(one.name)
    if datatype is None:
        raise refused(INPUT, f"the model has none of this name; it takes: {', '.join(wanted)}", one.name)
    if one.datatype != datatype:
        raise refused(INPUT, f"the model takes {datatype}, not {one.datatype[:40]!r}", one.name)
    if one.name in before:
        raise refused(INPUT, "it stands there twice", one.name)
    if one.parameters.shared_memory_region is not None:
        raise refused(INPUT, "shared memory is not offered here: send its data", one.name)


def _tensor(one: Input, raw: memoryview) -> Tensor:
    size = one.parameters.binary_data_size
    if size is None:
        if not one.data:
            raise refused(INPUT, "it has neither data nor binary_data_size", one.name)
        return from_json(one.name, one.datatype, one.shape, one.data)
    if size > len(raw):
        raise refused(INPUT, f"it takes {size} raw bytes, {len(raw)} are left", one.name)
    return from_bytes(one.name, one.datatype, one.shape, raw)


def answer(head: bytes, asked: Asked, outputs: Mapping[str, Tensor]) -> tuple[bytes, int | None]:
    """The body of an answer, and the bytes of its JSON where raw tensors follow.

    `head` is the beginning of the JSON object, up to the comma before the id. Problem 400 for an output that the model
    does not have or that JSON cannot carry.
    """
    told, raw = [], []
    for name, binary in _chosen(asked, outputs):
        value: Any = outputs[name]
        one: dict[str, Any] = {"name": name, "datatype": datatype_of(value.dtype), "shape": value.shape}
        if binary:
            part = to_bytes(value)
            one["parameters"] = {"binary_data_size": len(part)}
            raw.append(part)
        else:
            one["data"] = to_json(name, value)
        told.append(one)
    named = b"" if asked.id is None else b'"id":' + _encode(asked.id) + b","
    text = b"".join((head, named, b'"outputs":', _encode(told), b"}"))
    return (b"".join((text, *raw)), len(text)) if raw else (text, None)


def _chosen(asked: Asked, outputs: Mapping[str, Tensor]) -> list[tuple[str, bool]]:
    if not asked.outputs:
        return [(name, asked.binary) for name in outputs]
    chosen = []
    for one in asked.outputs:
        if one.name not in outputs:
            raise refused(OUTPUT, f"the model has none of this name; it gives: {', '.join(outputs)}", one.name)
        if one.parameters.shared_memory_region is not None or one.parameters.classification:
            raise refused(OUTPUT, "shared memory and classification are not offered here", one.name)
        binary = one.parameters.binary_data
        chosen.append((one.name, asked.binary if binary is None else binary))
    return chosen


def head(name: str, version: str, parameters: Mapping[str, object]) -> bytes:
    """The beginning of every answer of one session, up to the comma before what differs."""
    text = _encode({"model_name": name, "model_version": version, "parameters": dict(parameters)})
    return text[:-1] + b","
