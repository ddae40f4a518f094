"""Huawei Ascend: ATC compiles a model to .om, pyACL runs it.

Written to hiascend.com, CANN documentation, "ATC" (`--framework=5`, `--input_shape`, `--soc_version`,
`--precision_mode_v2`, `--output`) and "pyACL API" (`acl.rt`, `acl.mdl`, `acl.util`), as Ascend/samples call them
(python/common/acllite: acllite_model.py, acllite_utils.py, acllite_resource.py). Never run by us: it is tested against
a transcript.
"""

from __future__ import annotations

import importlib
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

ONNX = "5"
HUGE_FIRST = 0
"""ACL_MEM_MALLOC_HUGE_FIRST."""
TO_DEVICE, TO_HOST = 1, 2
"""ACL_MEMCPY_HOST_TO_DEVICE, ACL_MEMCPY_DEVICE_TO_HOST."""
_started: list[bool] = []


def _acl() -> Any:  # noqa: ANN401 - it has no types
    """The module, initialised once in a process."""
    acl = importlib.import_module("acl")
    if not _started:
        _right("acl.init", acl.init())
        _started.append(True)
    return acl


def _right(name: str, status: Any) -> None:  # noqa: ANN401 - a number
    if status != 0:
        message = f"{name} answered {status}"
        raise RuntimeError(message)


def _value(name: str, answer: Any) -> Any:  # noqa: ANN401 - a pair
    """Most calls answer a pair of what was asked for and a status, which is 0 when it went well."""
    value, status = answer
    _right(name, status)
    return value


def about(_options: dict[str, str]) -> dict[str, Any]:
    """The cards, and the chip, which ATC wants to know."""
    acl = _acl()
    return {"name": "pyACL", "file": acl.__file__, "soc": str(acl.get_soc_name()),
            "devices": _value("acl.rt.get_device_count", acl.rt.get_device_count())}  # fmt: skip


def compile_model(path: str, folder: str, asked: dict[str, Any]) -> None:
    """One .om for these shapes. RuntimeError with ATC's last lines. Where layers run is not told."""
    shapes = ";".join(f"{one['name']}:{','.join(map(str, one['shape']))}" for one in asked["inputs"])
    told = [f"--{name}={value}" for name, value in sorted(asked["options"].items()) if name.startswith("precision")]
    done = subprocess.run(  # noqa: S603 - the names in it are ours
        ["atc",  # noqa: S607 - found as set_env.sh of the toolkit says
         f"--model={path}", f"--framework={ONNX}", f"--output={Path(folder, 'model')}",
         f"--input_shape={shapes}", f"--soc_version={_acl().get_soc_name()}", *told],
        check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    if done.returncode != 0:
        message = f"atc ended with {done.returncode}: {done.stdout.decode(errors='replace').strip()[-400:]}"
        raise RuntimeError(message)


class Loaded:
    """An .om in a context of its own, with its memory on the card."""

    def __init__(self, folder: str, asked: dict[str, Any]) -> None:
        """Raises RuntimeError, naming the call."""
        self._acl, self._asked, self._device = _acl(), asked, int(asked["device"])
        acl = self._acl
        _right("acl.rt.set_device", acl.rt.set_device(self._device))
        self._context = _value("acl.rt.create_context", acl.rt.create_context(self._device))
        self._model = _value("acl.mdl.load_from_file", acl.mdl.load_from_file(str(Path(folder, "model.om"))))
        self._about = acl.mdl.create_desc()
        _right("acl.mdl.get_desc", acl.mdl.get_desc(self._about, self._model))
        self._in = self._laid([acl.mdl.get_input_size_by_index(self._about, n) for n in range(len(asked["inputs"]))])
        self._out = self._laid([acl.mdl.get_output_size_by_index(self._about, n) for n in range(len(asked["outputs"]))])

    def _laid(self, sizes: list[int]) -> tuple[Any, list[tuple[Any, int, Any]]]:
        """A data set of memory on the card."""
        acl, held = self._acl, []
        dataset = acl.mdl.create_dataset()
        for size in sizes:
            place = _value("acl.rt.malloc", acl.rt.malloc(size, HUGE_FIRST))
            buffer = acl.create_data_buffer(place, size)
            _value("acl.mdl.add_dataset_buffer", acl.mdl.add_dataset_buffer(dataset, buffer))
            held.append((place, size, buffer))
        return dataset, held

    def run(self, values: list[Any]) -> list[Any]:
        """Outputs in the model's order. RuntimeError, naming the call."""
        acl = self._acl
        # Each thread has a context of its own current; ours may be another one than that which loaded.
        _right("acl.rt.set_context", acl.rt.set_context(self._context))
        for value, (place, size, _) in zip(values, self._in[1]):  # noqa: B905 - Python 3.8
            data = value.tobytes()
            pointer = acl.util.bytes_to_ptr(data)
            _right("acl.rt.memcpy", acl.rt.memcpy(place, size, pointer, len(data), TO_DEVICE))
        _right("acl.mdl.execute", acl.mdl.execute(self._model, self._in[0], self._out[0]))
        return [self._read(one, held) for one, held in zip(self._asked["outputs"], self._out[1])]  # noqa: B905

    def _read(self, wanted: dict[str, Any], held: tuple[Any, int, Any]) -> Any:  # noqa: ANN401 - an array
        acl, (place, size, _) = self._acl, held
        room = _value("acl.rt.malloc_host", acl.rt.malloc_host(size))
        _right("acl.rt.memcpy", acl.rt.memcpy(room, size, place, size, TO_HOST))
        data = acl.util.ptr_to_bytes(room, size)
        _right("acl.rt.free_host", acl.rt.free_host(room))
        # The card may have rounded the size up.
        count = int(np.prod(wanted["shape"], dtype=np.int64))
        return np.frombuffer(data, np.dtype(wanted["dtype"]), count).reshape(wanted["shape"])

    def close(self) -> None:
        """Give everything back, in the order of the samples."""
        acl = self._acl
        acl.rt.set_context(self._context)
        for dataset, held in (self._in, self._out):
            for place, _, buffer in held:
                acl.destroy_data_buffer(buffer)
                acl.rt.free(place)
            acl.mdl.destroy_dataset(dataset)
        acl.mdl.unload(self._model)
        acl.mdl.destroy_desc(self._about)
        acl.rt.destroy_context(self._context)


def load(folder: str, asked: dict[str, Any]) -> Loaded:
    """On the card of that number."""
    return Loaded(folder, asked)
