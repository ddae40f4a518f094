"""A mock of MagicMind, after Cambricon/magicmind_cloud, buildin/python_common: model_process.py, mm_runner.py."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

from recorder import note

__version__ = "1.7"
ModelKind = types.SimpleNamespace(kOnnx="kOnnx")


class Status:
    """How a call went."""

    def ok(self) -> bool:
        """Always well."""
        return True


class System:
    """Counts cards."""

    def __enter__(self) -> System:
        """As the sample does."""
        return self

    def __exit__(self, *_told: object) -> None:
        """Nothing is held."""

    def device_count(self) -> int:
        """Two."""
        return 2


class Dims:
    """A shape."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        """Of an input."""
        self.sizes = sizes


class _Tensor:
    value: Any = None

    def set_dimension(self, dims: Dims) -> Status:
        """Of an input of a network."""
        note("set_dimension", list(dims.sizes))
        return Status()

    def from_numpy(self, value: Any) -> None:
        """What goes in."""
        note("from_numpy", str(value.dtype))
        self.value = value.copy()

    def to(self, card: Any) -> None:
        """To the card."""
        note("to", card.id)

    def asnumpy(self) -> Any:
        """What comes out."""
        return self.value


class Network:
    """Filled by a parser."""

    def get_input(self, number: int) -> _Tensor:
        """By its number."""
        note("get_input", number)
        return _Tensor()


class BuilderConfig:
    """Told in JSON."""

    def parse_from_string(self, told: str) -> Status:
        """One thing at a time."""
        note("parse_from_string", told)
        return Status()


class _Queue:
    def sync(self) -> Status:
        """Wait."""
        note("sync")
        return Status()


class Device:
    """A card."""

    id = -1

    def active(self) -> Status:
        """Make it this thread's."""
        note("active", self.id)
        return Status()

    def create_queue(self) -> _Queue:
        """For work."""
        note("create_queue")
        return _Queue()


class _Context:
    def create_inputs(self) -> list[_Tensor]:
        """One."""
        note("create_inputs")
        return [_Tensor()]

    def enqueue(self, given: list[_Tensor], answers: list[_Tensor], _queue: _Queue) -> Status:
        """Appends the outputs."""
        note("enqueue", len(given))
        for one in given:
            made = _Tensor()
            made.value = 2 * one.value
            answers.append(made)
        return Status()


class Model:
    """Built, or read from a file."""

    EngineConfig = types.SimpleNamespace

    def serialize_to_file(self, path: str) -> Status:
        """Write it."""
        note("serialize_to_file", Path(path).name)
        Path(path).write_text("model", encoding="utf-8")
        return Status()

    def deserialize_from_file(self, path: str) -> Status:
        """Read it."""
        note("deserialize_from_file", Path(path).read_text(encoding="utf-8"))
        return Status()

    def create_i_engine(self, config: Any) -> Any:
        """On a kind of device."""
        note("create_i_engine", config.device_type)
        return types.SimpleNamespace(create_i_context=_Context)


class Builder:
    """Builds models."""

    def build_model(self, name: str, _network: Network, _config: BuilderConfig) -> Model:
        """A model."""
        note("build_model", name)
        return Model()
