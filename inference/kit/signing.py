"""The signature of a report: Ed25519 in plain Python (RFC 8032, 5.1), for hosts that have nothing else.

It signs on the host of the one who runs the kit, once, offline. Its time depends on the key, so it is no code for a
server; whoever checks a signature uses a library.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from typing import TYPE_CHECKING, Tuple  # noqa: UP035 - Python 3.8

if TYPE_CHECKING:
    from pathlib import Path

    from . import Json

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
_BASE = (
    15112221349535400772501151409588531511454012693041857206046113283949847762202,
    46316835694926478169428394003475163141307993866256225615783033603165251855960,
)
_PEM = ("-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----")
_PKCS8 = bytes.fromhex("302e020100300506032b657004220420")
"""Before the 32 bytes of an Ed25519 key (RFC 8410, 7)."""
Point = Tuple[int, int, int, int]  # noqa: UP006 - Python 3.8


class KeyFileError(Exception):
    """The file holds no Ed25519 private key that can be read."""


def _add(one: Point, other: Point) -> Point:
    """RFC 8032, 5.1.4, in extended coordinates."""
    a = (one[1] - one[0]) * (other[1] - other[0]) % P
    b = (one[1] + one[0]) * (other[1] + other[0]) % P
    c, d = 2 * one[3] * other[3] * D % P, 2 * one[2] * other[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def _times(number: int, point: Point) -> Point:
    total: Point = (0, 1, 1, 0)
    while number:
        if number & 1:
            total = _add(total, point)
        point = _add(point, point)
        number >>= 1
    return total


def _encoded(point: Point) -> bytes:
    inverse = pow(point[2], P - 2, P)
    x, y = point[0] * inverse % P, point[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def _base() -> Point:
    x, y = _BASE
    return x, y, 1, x * y % P


def _expanded(seed: bytes) -> Tuple[int, bytes]:  # noqa: UP006 - Python 3.8
    digest = hashlib.sha512(seed).digest()
    scalar = int.from_bytes(digest[:32], "little") & ((1 << 254) - 8) | (1 << 254)
    return scalar, digest[32:]


def public_key(seed: bytes) -> bytes:
    """32 bytes of the private key's 32 (RFC 8032, 5.1.5)."""
    return _encoded(_times(_expanded(seed)[0], _base()))


def signature(seed: bytes, message: bytes) -> bytes:
    """64 bytes (RFC 8032, 5.1.6)."""
    scalar, prefix = _expanded(seed)
    public = public_key(seed)
    r = int.from_bytes(hashlib.sha512(prefix + message).digest(), "little") % ORDER
    point = _encoded(_times(r, _base()))
    challenge = int.from_bytes(hashlib.sha512(point + public + message).digest(), "little") % ORDER
    return point + ((r + challenge * scalar) % ORDER).to_bytes(32, "little")


def canonical(schema: str, report: Json) -> bytes:
    """What is signed: the JSON array of schema and report, members sorted, no white space, in UTF-8.

    Numbers are the shortest that give the same again, as Python writes them (`1e-05`). ValueError for NaN.
    """
    plain = json.dumps([schema, report], sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return plain.encode()


def signed(schema: str, report: Json, seed: bytes) -> Json:
    """The file: schema, report and the signature of whoever ran it."""
    public = public_key(seed)
    return {"schema": schema, "report": report, "signature": {
        "algorithm": "ed25519", "public_key": public.hex(), "fingerprint": hashlib.sha256(public).hexdigest(),
        "value": signature(seed, canonical(schema, report)).hex(),
    }}  # fmt: skip


def read_key(path: Path) -> bytes:
    """The private key of a PEM file (PKCS #8, without passphrase). Raises KeyFileError."""
    try:
        lines = path.read_text(encoding="ascii").split()
        der = base64.b64decode("".join(lines[3:-3]), validate=True)
    except (OSError, ValueError) as error:
        message = f"{path} is no private key that can be read: {error}"
        raise KeyFileError(message) from error
    if " ".join(lines[:3]) != _PEM[0] or not der.startswith(_PKCS8) or len(der) != len(_PKCS8) + 32:
        message = f"{path} holds another kind of key: give an Ed25519 key in PEM, without passphrase"
        raise KeyFileError(message)
    return der[len(_PKCS8):]


def make_key(path: Path) -> bytes:
    """A new private key in a file that only its owner reads. Raises OSError, also where the file is there."""
    seed = os.urandom(32)
    text = "\n".join((_PEM[0], base64.b64encode(_PKCS8 + seed).decode(), _PEM[1], ""))
    with os.fdopen(os.open(str(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    return seed
