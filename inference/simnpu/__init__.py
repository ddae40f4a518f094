"""SimNPU, a simulated accelerator of our own: a C++ plugin provider for ONNX Runtime, built from source on demand.

It computes in plain loops and proves nothing about speed or a maker's kernels; what it proves is the path: a library
loaded through the plugin ABI, partial coverage, half precision, static shapes, contexts compiled ahead of time, faults.
Options of a session: `precision=fp32|fp16`, `static_only=0|1`, `ops=Relu,Gemm,…`, and
`fault=none|create|compile|run|segfault|hang|leak|half`. Variables of the process: SIMNPU_FAULT (as the option),
SIMNPU_DEVICES (how many, 2 by default), SIMNPU_UNPLUGGED (a path: while a file is there the devices are gone),
SIMNPU_VERSION (what the driver calls itself when it is loaded, 1.0.0 by default).
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from inference.chip import MissingPartError, Text

NAME: Final = "SimNPUExecutionProvider"
_HERE: Final = Path(__file__).parent
_COMPILERS: Final = ("g++", "clang++", "c++")
_FLAGS: Final = ("-std=c++17", "-O2", "-Wall", "-Wextra", "-fPIC", "-shared", "-fvisibility=hidden")
_LIMIT_S: Final = 300


def sources() -> tuple[Path, ...]:
    """The files it is made of, sorted; headers among them."""
    return tuple(sorted(path for path in _HERE.iterdir() if path.suffix in {".cc", ".h"}))


def compiler() -> str:
    """A C++ compiler's path. Raises MissingPartError, which says what to install."""
    for name in _COMPILERS:
        path = shutil.which(name)
        if path is not None:
            return path
    said = Text(
        f"no C++ compiler to build it with ({', '.join(_COMPILERS)}): install g++",
        f"没有 C++ 编译器用于构建（{'、'.join(_COMPILERS)}）：请安装 g++",
    )
    raise MissingPartError(said)


def default_folder() -> Path:
    """Where built libraries are kept, in the home of whoever runs this. Raises MissingPartError."""
    try:
        return Path.home() / ".cache" / "headrace" / "simnpu"
    except RuntimeError as error:
        said = Text(
            f"SimNPU has nowhere to be built ({error}): give the user of this process a home folder",
            f"SimNPU 没有可用于构建的位置（{error}）：请为运行本进程的用户设置主目录",
        )
        raise MissingPartError(said) from error


def built_at(folder: Path | None = None) -> Path:
    """Where the library of exactly these sources belongs; it need not be there."""
    content = hashlib.sha256(" ".join((*_FLAGS, platform.machine(), *platform.libc_ver())).encode())
    for path in sources():
        content.update(path.name.encode() + path.read_bytes())
    return (folder or default_folder()) / f"libsimnpu-{content.hexdigest()[:16]}.so"


def library(folder: Path | None = None) -> Path:
    """The path of the library, built if it is not there yet (some 4 s).

    Raises MissingPartError where there is no compiler, it fails, or the folder cannot be ours alone.
    """
    path = built_at(folder)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _ours_alone(path.parent)
        if not path.exists():
            _build(path, compiler())
    except OSError as error:
        said = Text(
            f"SimNPU cannot be built in {path.parent}: {error}",
            f"SimNPU 无法在 {path.parent} 中构建：{error}",
        )
        raise MissingPartError(said) from error
    return path


def _ours_alone(folder: Path) -> None:
    """A library is loaded from it: nobody else may be able to put one there."""
    found = folder.stat()
    if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        said = Text(
            f"SimNPU is not built in {folder}, where others may write: chmod 700, or another folder",
            f"SimNPU 不在他人可写的 {folder} 中构建：请 chmod 700，或改用其他文件夹",
        )
        raise MissingPartError(said)


def _build(path: Path, program: str) -> None:
    """Compile beside the place and move there: another process that does the same sees all of it or nothing."""
    units = [str(source) for source in sources() if source.suffix == ".cc"]
    with tempfile.TemporaryDirectory(dir=path.parent) as beside:
        made = Path(beside) / path.name
        command = [program, *_FLAGS, "-o", str(made), *units]
        try:
            done = subprocess.run(  # noqa: S603 - a compiler of this machine, on files of ours
                command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_LIMIT_S
            )
        except subprocess.TimeoutExpired as error:
            said = Text(
                f"SimNPU was not built: {program} did not end within {_LIMIT_S} s",
                f"SimNPU 未构建：{program} 未在 {_LIMIT_S} 秒内结束",
            )
            raise MissingPartError(said) from error
        if done.returncode != 0:
            said = Text(
                f"SimNPU was not built: {program} said: {done.stderr.strip()[:600]}",
                f"SimNPU 未构建：{program} 报告：{done.stderr.strip()[:600]}",
            )
            raise MissingPartError(said)
        made.replace(path)
