"""A mock of pyACL, after Ascend/samples, python/common/acllite: memory of a card, data sets, a model that doubles."""

from __future__ import annotations

import ctypes
import types
from pathlib import Path
from typing import Any

import numpy as np
from recorder import note

_memory: dict[int, bytearray] = {}
_kept: list[Any] = []


def init() -> int:
    """Once in a process."""
    note("acl.init")
    return 0


def get_soc_name() -> str:
    """As the samples show it."""
    return "Ascend310P3"


def _malloc(size: int, policy: int) -> tuple[int, int]:
    note("acl.rt.malloc", size, policy)
    place = 1000 + len(_memory)
    _memory[place] = bytearray(size)
    return place, 0


def _malloc_host(size: int) -> tuple[int, int]:
    note("acl.rt.malloc_host", size)
    buffer = ctypes.create_string_buffer(size)
    _kept.append(buffer)
    return ctypes.addressof(buffer), 0


def _memcpy(to: int, most: int, source: int, size: int, kind: int) -> int:
    note("acl.rt.memcpy", kind)
    if size > most:
        return 507899
    if kind == 1:
        _memory[to][:size] = ctypes.string_at(source, size)
    else:
        ctypes.memmove(to, bytes(_memory[source][:size]), size)
    return 0


def _execute(model: int, given: list[Any], answers: list[Any]) -> int:
    note("acl.mdl.execute", model)
    for (source, size), (place, _) in zip(given, answers, strict=True):
        _memory[place][:size] = (2 * np.frombuffer(bytes(_memory[source]), np.float32)).tobytes()
    return 0


def _bytes_to_ptr(data: bytes) -> int:
    buffer = ctypes.create_string_buffer(data, len(data))
    _kept.append(buffer)
    return ctypes.addressof(buffer)


def _said(name: str, answer: Any = 0) -> Any:
    def call(*_told: Any) -> Any:
        note(name)
        return answer

    return call


def _load(path: str) -> tuple[int, int]:
    note("acl.mdl.load_from_file", Path(path).read_text(encoding="utf-8"))
    return 7, 0


def _add(dataset: list[Any], buffer: Any) -> tuple[list[Any], int]:
    dataset.append(buffer)
    return dataset, 0


rt = types.SimpleNamespace(
    get_device_count=lambda: (2, 0), set_device=_said("acl.rt.set_device"),
    create_context=_said("acl.rt.create_context", (5, 0)), set_context=_said("acl.rt.set_context"),
    destroy_context=_said("acl.rt.destroy_context"), malloc=_malloc, free=_said("acl.rt.free"),
    malloc_host=_malloc_host, free_host=_said("acl.rt.free_host"), memcpy=_memcpy,
)  # fmt: skip
mdl = types.SimpleNamespace(
    load_from_file=_load, create_desc=lambda: 3, get_desc=_said("acl.mdl.get_desc"),
    get_input_size_by_index=lambda _about, _index: 24, get_output_size_by_index=lambda _about, _index: 24,
    create_dataset=list, add_dataset_buffer=_add, execute=_execute, destroy_dataset=_said("acl.mdl.destroy_dataset", 0),
    unload=_said("acl.mdl.unload"), destroy_desc=_said("acl.mdl.destroy_desc"),
)  # fmt: skip
util = types.SimpleNamespace(bytes_to_ptr=_bytes_to_ptr, ptr_to_bytes=ctypes.string_at)


def create_data_buffer(place: int, size: int) -> tuple[int, int]:
    """A place on the card, and its size."""
    return place, size


def destroy_data_buffer(_buffer: Any) -> int:
    """Nothing is held."""
    note("acl.destroy_data_buffer")
    return 0
