"""Seals secrets for the database: AES-256-GCM under a key that lies outside it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from app.durable import make_folder, sync_folder
from app.settings import settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from pydantic import SecretStr

_NONCE: Final = 12
_KEY: Final = 32


class SealError(ValueError):
    """A sealed value cannot be opened: the key is another one, or the value was changed. Restore `secret.key`."""


def _make(path: Path) -> None:
    """A new key in this file, atomically, mode 0600, unless there is one."""
    make_folder(path.parent)
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(handle, secrets.token_bytes(_KEY))
        os.fsync(handle)
    finally:
        os.close(handle)
    try:
        os.link(fresh, path)
    except FileExistsError:
        pass  # another process was first: its key counts
    finally:
        fresh.unlink()


@cache
def _made(path: Path) -> bytes:
    """The key in this file, made when it is not there."""
    if not path.exists():
        _make(path)
    # Before anything is sealed with it, whoever has made it: what is sealed outlives a power cut.
    sync_folder(path.parent)
    return _read(path)


@cache
def _read(path: Path) -> bytes:
    """The key in this file: to open something is to read, which a disk that fails to write must not hinder."""
    try:
        key = path.read_bytes()
    except FileNotFoundError as error:
        message = f"{path} is not there: restore it from the backup, or apply the plant file again"
        raise SealError(message) from error
    if len(key) != _KEY:
        message = f"{path} is no key of {_KEY} bytes: restore it from the backup"
        raise SealError(message)
    return key


def _key(of_file: Callable[[Path], bytes]) -> bytes:
    given = settings().secret_key
    return _derived(given) if given is not None else of_file(settings().data_dir / "secret.key")


def _derived(given: SecretStr) -> bytes:
    return hashlib.sha256(given.get_secret_value().encode()).digest()


def seal(text: str) -> dict[str, str]:
    """What may stand in the database instead of a secret."""
    nonce = secrets.token_bytes(_NONCE)
    return {"sealed": base64.b64encode(nonce + AESGCM(_key(_made)).encrypt(nonce, text.encode(), b"headrace")).decode()}


def unseal(value: Mapping[str, object]) -> str:
    """The secret behind `{"sealed": …}`. SealError when it cannot be opened."""
    key = AESGCM(_key(_read))
    try:
        data = base64.b64decode(str(value["sealed"]), validate=True)
        return key.decrypt(data[:_NONCE], data[_NONCE:], b"headrace").decode()
    except (KeyError, binascii.Error, InvalidTag, ValueError) as error:
        message = "a sealed secret cannot be opened with this key: restore secret.key, or apply the plant file again"
        raise SealError(message) from error


def sealed(options: Mapping[str, Any], secrets: frozenset[str]) -> dict[str, Any]:
    """Options with these keys sealed."""
    return {key: seal(str(value)) if key in secrets else value for key, value in options.items()}


def opened(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options in the clear: never to be logged. SealError when the key is another one."""
    return {
        key: unseal(value) if isinstance(value, dict) and set(value) == {"sealed"} else value
        for key, value in options.items()
    }


def same(stored: Mapping[str, Any] | None, wanted: Mapping[str, Any]) -> bool:
    """Whether stored options are these, secrets included; what can no longer be opened is not."""
    try:
        return opened(stored or {}) == dict(wanted)
    except SealError:
        return False
