"""Provider plugins for tests: SimNPU with options, a library that crashes, a module as makers ship it."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from inference import simnpu
from inference.adapters.ort_plugin import PluginBackend
from inference.vendors.simnpu import PLUGIN

needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("g++", "clang++", "c++"))), reason="SimNPU is built from source: apt-get install g++"
)
"""Not by the device's absence: a simulator that does not build where there is a compiler is a failure."""

_BAD: Final = """\
// A provider plugin that does not survive being asked for its factories.
#include <csignal>
extern "C" __attribute__((visibility("default"))) void* CreateEpFactories(
    const char*, const void*, const void*, void**, unsigned long, unsigned long*) {
  raise(SIGSEGV);
  return nullptr;
}
extern "C" __attribute__((visibility("default"))) void* ReleaseEpFactory(void*) { return nullptr; }
"""


def told(**options: str) -> PluginBackend:
    """SimNPU, its provider told this and nothing else; free dimensions are left to it."""
    return PluginBackend(replace(PLUGIN, provider=replace(PLUGIN.provider, options=options, shapes=("dynamic",))))


def crashing(folder: Path) -> Path:
    """A library that kills the process in which ONNX Runtime registers it, compiled here."""
    source, library = folder / "bad.cc", folder / "libbad.so"
    source.write_text(_BAD, encoding="utf-8")
    subprocess.run([simnpu.compiler(), "-shared", "-fPIC", "-o", library, source], check=True)
    return library


def module(folder: Path, name: str, provider: str = simnpu.NAME) -> None:
    """A package with the functions that makers' wheels share, around SimNPU's library."""
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(
        f'"""Finds the library."""\n\ndef get_library_path(): return {str(simnpu.library())!r}\n'
        f"def get_ep_name(): return {provider!r}\ndef get_ep_names(): return [get_ep_name()]\n",
        encoding="utf-8",
    )
