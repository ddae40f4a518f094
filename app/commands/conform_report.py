"""The conformance report: what it says, the key it is signed with, and the check of what others signed."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Final

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from app.commands.console import t
from app.durable import make_folder, replace
from inference.kit.signing import canonical
from inference.kit.suite import SCHEMA, SECTIONS, total
from inference.kit.suite import Section as KitSection

if TYPE_CHECKING:
    from pathlib import Path

MOST_BYTES: Final = 64 * 1024 * 1024
"""A report of all cases has about 1 MB; what is larger by far is none."""


class ReportError(Exception):
    """The file is no report, its signature does not hold, or the key cannot be used; the message says which."""


class Versions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the kit ran on."""

    headrace: str
    """Empty where the gateway runs from a tree that is not installed."""
    onnx: str
    """Of the cases."""
    backend: str
    python: str
    numpy: str
    os: str
    machine: str
    driver: str
    """As the one who ran it states it; nothing checks it."""
    way: str
    """`gateway`, or `archive` on a maker's host."""


class Subject(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The device."""

    id: str
    vendor: str
    name: str


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One part of the run."""

    section: str
    verdict: str
    reason: str
    seconds: float
    facts: dict[str, Any]


class Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was found."""

    made_at: str
    device: Subject
    versions: Versions
    selection: str
    """The text the case names were chosen by; empty where all were run."""
    reloads: int
    verdict: str
    sections: list[Section]


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Over `inference.kit.signing.canonical` of schema and report."""

    algorithm: str
    public_key: str
    """32 bytes, hexadecimal."""
    fingerprint: str
    """SHA-256 of those bytes, hexadecimal."""
    value: str
    """64 bytes, hexadecimal."""


class Signed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file."""

    schema: str
    report: Report
    signature: Signature


def own_key(path: Path, *, make: bool) -> Ed25519PrivateKey:
    """The private key in a PEM file; made once, mode 0600, where `make` allows. Raises ReportError."""
    if make and not path.exists():
        make_folder(path.parent)
        pem = Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        replace(path, pem, 0o600)
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        message = t("{file} is no private key that can be read: {reason}", file=path, reason=error)
        raise ReportError(message) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ReportError(t("{file} holds another kind of key: give an Ed25519 key in PEM", file=path))
    return key


def sign(report: dict[str, Any], key: Ed25519PrivateKey) -> dict[str, Any]:
    """The report with the signature of whoever ran it, as the file holds it."""
    public = key.public_key().public_bytes_raw()
    return {"schema": SCHEMA, "report": report, "signature": {
        "algorithm": "ed25519", "public_key": public.hex(), "fingerprint": hashlib.sha256(public).hexdigest(),
        "value": key.sign(canonical(SCHEMA, report)).hex(),
    }}  # fmt: skip


def verified(content: bytes) -> Signed:
    """A report whose signature holds. Raises ReportError. Who holds the key is for the reader to know."""
    if len(content) > MOST_BYTES:
        raise ReportError(t("The file is larger than any conformance report."))
    try:
        # Read once: what is shown is what was signed, also where a member stands twice.
        plain = json.loads(content)
        signed = msgspec.convert(plain, Signed)
        public = bytes.fromhex(signed.signature.public_key)
        value = bytes.fromhex(signed.signature.value)
        key = Ed25519PublicKey.from_public_bytes(public)
        message = canonical(signed.schema, plain["report"])
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ReportError(t("The file is no conformance report: {reason}", reason=error)) from error
    if signed.schema != SCHEMA or signed.signature.algorithm != "ed25519":
        raise ReportError(t("The report is of a schema or a signature that this version does not know."))
    if hashlib.sha256(public).hexdigest() != signed.signature.fingerprint:
        raise ReportError(t("The fingerprint is not that of the key in the report."))
    try:
        key.verify(value, message)
    except InvalidSignature as error:
        raise ReportError(t("The signature does not hold: the report was changed after it was signed.")) from error
    if contradicts(signed.report):
        raise ReportError(t("The report contradicts itself: its verdict is not that of its sections."))
    return signed


def contradicts(report: Report) -> bool:
    """Whether the sections are not ours, stand twice, or say something else than the whole."""
    names = [one.section for one in report.sections]
    found = [KitSection(one.section, one.verdict, one.reason, one.seconds, {}) for one in report.sections]
    return len(set(names)) != len(names) or not set(names) <= set(SECTIONS) or total(found) != report.verdict
