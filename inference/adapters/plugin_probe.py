"""Loads a provider plugin in a child process and says what it offers, so that one that crashes kills nobody else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Final

from inference.chip import MissingPartError, Text

_TOP: Final = Path(__file__).resolve().parents[2]
_LIMIT_S: Final = 120
_MOST_BYTES: Final = 65_536
_MOST_DEVICES: Final = 64


class NoDeviceError(MissingPartError):
    """The library could be loaded and lists no device."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A plugin: a library by its path, or the Python module that knows its path."""

    provider: str
    """The execution provider's name; a library may offer others as well."""
    library: str = ""
    module: str = ""
    folders: tuple[str, ...] = ()
    """Where the module is looked for besides the places this process imports from."""


@dataclass(frozen=True, slots=True)
class Offered:
    """What a library that could be loaded offers."""

    library: str
    devices: int
    """Of that provider."""


def probe(wanted: Wanted) -> Offered:
    """Load it in a child. Raises MissingPartError: it is not there, does not load, crashes, hangs or has no device.

    The child inherits the environment, by which makers' runtimes are told what they may see. A module is imported
    nowhere else.
    """
    request = json.dumps([wanted.provider, wanted.library, wanted.module, list(wanted.folders)])
    answer, told = os.pipe()
    with os.fdopen(answer, "rb") as reading:
        try:
            done = subprocess.run(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-m", __name__, str(told), request], check=False, cwd=_TOP, stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, pass_fds=(told,), timeout=_LIMIT_S,
            )
        except subprocess.TimeoutExpired as error:
            raise MissingPartError(_hung(wanted)) from error
        finally:
            os.close(told)
        said = reading.read(_MOST_BYTES)
    if done.returncode != 0 or not said:
        raise MissingPartError(_crashed(wanted, done.returncode))
    return _understood(wanted, said)


def _name(wanted: Wanted) -> str:
    return wanted.module or wanted.library


def _hung(wanted: Wanted) -> Text:
    return Text(f"loading {_name(wanted)} took longer than {_LIMIT_S} s: see to its driver",
                f"加载 {_name(wanted)} 超过 {_LIMIT_S} 秒：请检查其驱动")


def _crashed(wanted: Wanted, code: int) -> Text:
    cause = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit {code}"
    cause_zh = f"信号 {signal.Signals(-code).name}" if code < 0 else f"退出码 {code}"
    return Text(f"{_name(wanted)} crashes the process that loads it ({cause}): it is not loaded into this one; "
                "install a build for this ONNX Runtime",
                f"{_name(wanted)} 会使加载它的进程崩溃（{cause_zh}）：未在本进程加载；"
                "请安装与此 ONNX Runtime 相配的版本")


def _understood(wanted: Wanted, said: bytes) -> Offered:
    """The child's answer, held to its form: foreign code ran in that process."""
    try:
        answer = json.loads(said)
        library, devices, problem = str(answer["library"]), int(answer["devices"]), str(answer["problem"])[:600]
    except (ValueError, LookupError, TypeError) as error:
        raise MissingPartError(_crashed(wanted, 0)) from error
    if problem:
        raise MissingPartError(Text(f"{_name(wanted)} cannot be loaded: {problem}",
                                    f"{_name(wanted)} 无法加载：{problem}"))
    if not 0 < devices <= _MOST_DEVICES:
        raise NoDeviceError(Text(f"{_name(wanted)} was loaded and offers no device of {wanted.provider}",
                                 f"{_name(wanted)} 已加载，但未提供 {wanted.provider} 的设备"))
    return Offered(library, devices)


def _library(library: str, module: str, provider: str) -> str:
    """The library's path; a module tells it and must name the provider (the contract that such wheels share)."""
    if not module:
        return library
    made = import_module(module)
    named = made.get_ep_names() if hasattr(made, "get_ep_names") else [made.get_ep_name()]
    if provider not in named:
        message = f"it offers {', '.join(map(str, named))}, not {provider}"
        raise ValueError(message)
    return str(made.get_library_path())


def main() -> None:
    """The child: answers on the file descriptor that it is given."""
    told, (provider, library, module, folders) = int(sys.argv[1]), json.loads(sys.argv[2])
    sys.path[:0] = folders
    from inference.adapters import ort  # noqa: PLC0415 - the parent starts without a runtime

    runtime = ort.runtime()
    failures: tuple[type[Exception], ...] = (ImportError, AttributeError, OSError, RuntimeError, ValueError)
    answer: dict[str, object] = {"library": library, "devices": 0, "problem": ""}
    try:
        answer["library"] = path = str(Path(_library(library, module, provider)).resolve())
        runtime.register_execution_provider_library(provider, path)
        answer["devices"] = sum(one.ep_name == provider for one in runtime.get_ep_devices())
    except (*failures, *ort.errors()) as error:
        answer["problem"] = ort.said(error) or type(error).__name__
    with os.fdopen(told, "w", encoding="utf-8") as answering:
        json.dump(answer, answering)


if __name__ == "__main__":
    main()
