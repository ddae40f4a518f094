"""Where the dynamic linker looks for shared libraries: its own word, and its configuration."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_SERINFO: Final = 4
_SERINFOSIZE: Final = 5
"""Requests of dlinfo(3), <dlfcn.h>."""


class _Place(ctypes.Structure):
    """Dl_serpath."""

    _fields_ = (("name", ctypes.c_char_p), ("flags", ctypes.c_uint))


class _Places(ctypes.Structure):
    """Dl_serinfo, which ends in so many places as it counts."""

    _fields_ = (("size", ctypes.c_size_t), ("count", ctypes.c_uint), ("places", _Place * 1))


@cache
def searched() -> tuple[str, ...]:
    """The folders this process searches, LD_LIBRARY_PATH among them; none where the C library cannot tell."""
    us = ctypes.CDLL(None)
    if not hasattr(us, "dlinfo"):
        return ()
    handle = ctypes.c_void_p(us._handle)  # noqa: SLF001 - the only way to it
    needed = _Places()
    if us.dlinfo(handle, _SERINFOSIZE, ctypes.byref(needed)):
        return ()
    room = ctypes.create_string_buffer(needed.size)
    places = _Places.from_buffer(room)
    places.size, places.count = needed.size, needed.count
    if us.dlinfo(handle, _SERINFO, ctypes.byref(places)):
        return ()
    first = ctypes.addressof(room) + ctypes.sizeof(_Places) - ctypes.sizeof(_Place)
    found = (_Place * needed.count).from_address(first)
    return tuple(place.name.decode(errors="surrogateescape") for place in found)


def configured(root: Path) -> tuple[str, ...]:
    """The folders that /etc/ld.so.conf and /etc/ld.so.conf.d name, of the machine below `root`."""
    folder = root / "etc"
    found = []
    for file in (folder / "ld.so.conf", *sorted((folder / "ld.so.conf.d").glob("*.conf"))):
        try:
            lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        found += [line.strip() for line in lines if line.strip().startswith("/")]
    return tuple(found)
