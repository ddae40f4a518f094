"""Seals what only the box's owner may read in a backup: AES-256-GCM under a key made from a passphrase."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from app.backup.archive import BackupError

if TYPE_CHECKING:
    from pathlib import Path

SHORTEST: Final = 12
"""Characters of a passphrase: the file can be tried against as often as one likes."""
_SALT, _NONCE = 16, 12
_N: Final = 2**16
"""64 MB and some 0.2 s a try (RFC 7914 section 2: cost, block size 8, parallelisation 1)."""


def passphrase(path: Path) -> str:
    """What is in this file, without its last newline. Raises BackupError, OSError."""
    found = path.read_text(encoding="utf-8").rstrip("\r\n")
    if len(found) < SHORTEST:
        message = "the passphrase in {path} is shorter than {count} characters: choose a longer one"
        raise BackupError(message, path=path, count=SHORTEST)
    return found


def fresh_salt() -> str:
    """Hexadecimal."""
    return secrets.token_hex(_SALT)


class Sealer:
    """Of one backup."""

    def __init__(self, phrase: str, salt: str) -> None:
        """`salt`: hexadecimal. Takes a moment. Raises BackupError for a salt that is none of ours."""
        try:
            raw = bytes.fromhex(salt)
        except ValueError:
            raw = b""
        if len(raw) != _SALT:
            message = "the backup's salt is not one of ours: take another backup"
            raise BackupError(message)
        self._cipher = AESGCM(Scrypt(salt=raw, length=32, n=_N, r=8, p=1).derive(phrase.encode()))

    def seal(self, name: str, content: bytes) -> bytes:
        """Bound to its name: it cannot be passed off as another part."""
        nonce = secrets.token_bytes(_NONCE)
        return nonce + self._cipher.encrypt(nonce, content, name.encode())

    def open(self, name: str, content: bytes) -> bytes:
        """What was sealed. Raises BackupError."""
        try:
            return self._cipher.decrypt(content[:_NONCE], content[_NONCE:], name.encode())
        except InvalidTag as error:
            message = "the passphrase is not the one this backup was made with"
            raise BackupError(message) from error
