"""Signatures of model packages: Ed25519, or SM2 with SM3 (GB/T 32918.2, GB/T 32905), in a file beside the package.

What is signed are both digests of the content, so a package keeps its signature however it is packed. The file lies
beside the package and not in it: it would change what it signs.
"""

from __future__ import annotations

import base64
import hashlib
import importlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from inference import BackendNotInstalledError, InvalidModelError
from inference.kit.signing import KeyFileError, canonical, make_key, read_key

if TYPE_CHECKING:
    from collections.abc import Collection

    from inference import Model

Algorithm = Literal["ed25519", "sm2"]
SCHEMA: Final = "headrace-signature/1"
SUFFIX: Final = ".sig"
_KEPT: Final = "signature.json"
_MOST_BYTES: Final = 16 * 1024
_SM2_PKCS8: Final = bytes.fromhex("308187020100301306072a8648ce3d020106082a811ccf5501822d046d306b0201010420")
"""Before the 32 bytes of a private key on the curve sm2p256v1 (RFC 5915, RFC 5208), as OpenSSL writes it."""
_SM2_PUBLIC: Final = bytes.fromhex("a14403420004")
"""Between them and the 64 bytes of the public key."""


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file."""

    schema: str
    digest: str
    """SHA-256 of the content."""
    sm3: str
    """SM3 of the same."""
    algorithm: Algorithm
    public_key: str
    """Ed25519: 32 bytes. SM2: x and y, 64 bytes. Hexadecimal."""
    value: str
    """Ed25519: 64 bytes. SM2: DER of r and s. Hexadecimal."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the public key's bytes, hexadecimal."""
        return hashlib.sha256(bytes.fromhex(self.public_key)).hexdigest()


def beside(source: Path) -> Path:
    """Where the signature of a package lies: `NAME.sig` beside the folder or file."""
    return source.with_name(f"{source.name}{SUFFIX}")


def sm2() -> Any:  # noqa: ANN401 - it has no types
    """GmSSL's SM2. Raises BackendNotInstalledError."""
    try:
        return importlib.import_module("gmssl_pyx")
    except ImportError as error:
        message = "SM2 needs the package gmssl-pyx: pip install 'headrace[sm2]'"
        raise BackendNotInstalledError(message) from error


def make(path: Path, algorithm: Algorithm) -> None:
    """A new private key (PKCS #8, PEM) that only its owner reads. Raises OSError, BackendNotInstalledError."""
    if algorithm == "ed25519":
        make_key(path)
        return
    public, private = sm2().sm2_key_generate()
    text = base64.encodebytes(_SM2_PKCS8 + private + _SM2_PUBLIC + public).decode()
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f"-----BEGIN PRIVATE KEY-----\n{text}-----END PRIVATE KEY-----\n")


def sign(model: Model, key: Path) -> bytes:
    """The signature file of a checked model. `key`: PEM without passphrase; its kind decides the algorithm.

    Raises KeyFileError, BackendNotInstalledError.
    """
    pair = _sm2_pair(key)
    algorithm: Algorithm = "ed25519" if pair is None else "sm2"
    message = _message(algorithm, model.digest, model.sm3)
    if pair is None:
        own = Ed25519PrivateKey.from_private_bytes(read_key(key))
        public, value = own.public_key().public_bytes_raw(), own.sign(message)
    else:
        private, public = pair
        value = sm2().sm2_sign(private, public, message)
    made = Signature(SCHEMA, model.digest, model.sm3, algorithm, public.hex(), value.hex())
    return msgspec.json.format(msgspec.json.encode(made)) + b"\n"


def _message(algorithm: str, digest: str, sm3: str) -> bytes:
    """The algorithm is signed with the digests, so that no key of one kind stands for one of the other."""
    return canonical(SCHEMA, {"algorithm": algorithm, "digest": digest, "sm3": sm3})


def _sm2_pair(path: Path) -> tuple[bytes, bytes] | None:
    """Private and public part of an SM2 key; None where the file is of another kind. Raises KeyFileError."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
        der = base64.b64decode("".join(line for line in lines if not line.startswith("-----")), validate=True)
    except (OSError, ValueError) as error:
        message = f"{path} is no private key that can be read: {error}"
        raise KeyFileError(message) from error
    begin = len(_SM2_PKCS8)
    middle = der[begin + 32 : begin + 32 + len(_SM2_PUBLIC)]
    if not der.startswith(_SM2_PKCS8) or middle != _SM2_PUBLIC:
        return None
    return der[begin : begin + 32], der[begin + 32 + len(_SM2_PUBLIC) :]


def check(model: Model, content: bytes) -> Signature:
    """A signature that holds for this very content. Raises InvalidModelError, BackendNotInstalledError."""
    try:
        if len(content) > _MOST_BYTES:
            message = "it is too large"
            raise ValueError(message)  # noqa: TRY301 - one way out
        found = msgspec.convert(json.loads(content), Signature)
        public, value = bytes.fromhex(found.public_key), bytes.fromhex(found.value)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        message = f"the signature file is none: {error}"
        raise InvalidModelError(message) from error
    if found.schema != SCHEMA:
        message = f"the signature is of the schema {found.schema}, which this version does not know"
        raise InvalidModelError(message)
    if (found.digest, found.sm3) != (model.digest, model.sm3):
        message = f"the signature is of other content: {found.digest}, the package is {model.digest}"
        raise InvalidModelError(message)
    if not _holds(found, public, value):
        message = "the signature does not hold: package or signature was changed after it was signed"
        raise InvalidModelError(message)
    return found


def _holds(found: Signature, public: bytes, value: bytes) -> bool:
    message = _message(found.algorithm, found.digest, found.sm3)
    if found.algorithm == "sm2":
        library = sm2()
        try:
            return bool(library.sm2_verify(public, message, value))
        except (library.InvalidValueError, library.GmsslInnerError):
            return False
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(value, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def admit(model: Model, content: bytes | None, *, trusted: Collection[str], required: bool) -> Signature | None:
    """The policy at the border. `trusted`: fingerprints. Raises InvalidModelError, BackendNotInstalledError.

    A signature that is there has to hold, also where none is asked for.
    """
    if content is None:
        if required:
            message = "the package is not signed, and HEADRACE_REQUIRE_SIGNATURE asks for it: headrace model sign"
            raise InvalidModelError(message)
        return None
    found = check(model, content)
    if required and found.fingerprint not in trusted:
        message = f"the package is signed by {found.fingerprint}, who is not in HEADRACE_TRUSTED_SIGNERS"
        raise InvalidModelError(message)
    return found


def given(source: Path) -> bytes | None:
    """The signature file beside a package, None where there is none. Raises OSError."""
    path = beside(source)
    return path.read_bytes() if path.is_file() else None


def _place(model: Model) -> Path:
    return model.path.parent.parent / _KEPT


def keep(model: Model, content: bytes) -> None:
    """Put a signature beside the model in the store, so that the model is known by its digest alone later."""
    target = _place(model)
    fresh = target.with_name(f"{_KEPT}.new")
    with fresh.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(target)


def kept(model: Model) -> bytes | None:
    """The signature that the store has of a model. Raises OSError."""
    path = _place(model)
    return path.read_bytes() if path.is_file() else None
