"""A mock of TopsInference, after EnflameTechnology/tops_inference_sample, python/sampleONNX*: it doubles."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recorder import note

__version__ = "2.0"
ONNX_MODEL, KDEFAULT, KFP16, KFP16_MIX, TIF_ENGINE_RSC_IN_HOST_OUT_HOST = 1, "KDEFAULT", "KFP16", "KFP16_MIX", 4


@contextmanager
def device(card: int, cluster: int) -> Iterator[None]:
    """A card while something is built."""
    note("device", card, cluster)
    yield
    note("device left")


def set_device(card: int, cluster: int) -> str:
    """A card until it is released."""
    note("set_device", card, cluster)
    return "handler"


def release_device(handler: str) -> None:
    """Give it back."""
    note("release_device", handler)


class _Parser:
    def __getattr__(self, name: str) -> Any:
        return lambda told: note(name, told)

    def read(self, path: str) -> str:
        """A network."""
        note("read", Path(path).name)
        return "network"


def create_parser(kind: int) -> _Parser:
    """Of ONNX files."""
    note("create_parser", kind)
    return _Parser()


class PyEngine:
    """Built, or loaded from a file."""

    def save_executable(self, path: str) -> None:
        """To a file."""
        note("save_executable", Path(path).name)
        Path(path).write_text("executable", encoding="utf-8")

    def load_tops_executable(self, path: str) -> None:
        """From a file."""
        note("load_tops_executable", Path(path).read_text(encoding="utf-8"))

    def run(self, given: list[Any], answers: list[Any], kind: int) -> None:
        """Appends the outputs."""
        note("run", len(given), kind)
        answers.extend(2 * one for one in given)


class _Optimizer:
    def set_build_flag(self, flag: str) -> None:
        """The precision."""
        note("set_build_flag", flag)

    def build(self, network: str) -> PyEngine:
        """An engine."""
        note("build", network)
        return PyEngine()


def create_optimizer() -> _Optimizer:
    """Builds engines."""
    return _Optimizer()
