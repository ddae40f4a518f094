"""Chromium's software Vulkan (SwiftShader), made known to this process and its children, or why it is not."""

from __future__ import annotations

import ctypes
import json
import os
import tempfile
from pathlib import Path
from typing import Final

FOLDERS: Final = (Path("/usr/lib/chromium"), Path("/usr/lib/chromium-browser"), Path("/usr/lib64/chromium-browser"))
"""Where distributions put Chromium's libraries."""
_DRIVER: Final = "libvk_swiftshader.so"
_LOADER: Final = "libvulkan.so.1"
_FOLDER: Final = tempfile.TemporaryDirectory(prefix="headrace-vulkan-")
"""Removed when this process ends."""


def variables(into: Path) -> dict[str, str]:
    """What a process needs in its environment to find it; empty where Chromium is not installed.

    Writes a driver's manifest into the folder, with an absolute path (Chromium's own names it beside itself), and a
    link to the loader alone: Chromium's folder has libraries of other names, too.
    """
    there = next((each for each in FOLDERS if (each / _DRIVER).exists() and (each / _LOADER).exists()), None)
    if there is None:
        return {}
    driver = into / "swiftshader.json"
    manifest = {"library_path": str(there / _DRIVER), "api_version": "1.1.0"}
    driver.write_text(json.dumps({"file_format_version": "1.0.0", "ICD": manifest}), encoding="utf-8")
    (into / _LOADER).symlink_to(there / _LOADER)
    return {
        "VK_DRIVER_FILES": str(driver), "VK_ICD_FILENAMES": str(driver), "LD_LIBRARY_PATH": str(into),
        "ORT_WEBGPU_EP_ALLOW_SOFTWARE_ADAPTER": "1",
    }


def provided() -> str:
    """Make it known here and to children started later; says what is missing, or nothing."""
    wanted = variables(Path(_FOLDER.name))
    if not wanted:
        return "Chromium's SwiftShader is missing: apt-get install chromium-common"
    # The linker has read its path when this process began: what it would find there is loaded beforehand.
    ctypes.CDLL(str(Path(wanted["LD_LIBRARY_PATH"], _LOADER)), mode=ctypes.RTLD_GLOBAL)
    for name, value in wanted.items():
        if name not in os.environ:
            os.environ[name] = value
    return ""


MISSING: Final = provided()
