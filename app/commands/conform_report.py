"""The conformance report: what it says, the Ed25519 signature over it, and the page for people."""

from __future__ import annotations

import hashlib
import html
from typing import TYPE_CHECKING, Any, Final

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from app.commands.console import chinese, t
from app.durable import make_folder, replace

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA: Final = "headrace-conformance/1"
MOST_BYTES: Final = 64 * 1024 * 1024
"""A report of all cases has under 1 MB; what is larger by far is none."""


class ReportError(Exception):
    """The file is no report, its signature does not hold, or the key cannot be used; the message says which."""


class Versions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the cases ran on."""

    headrace: str
    """Empty where the gateway runs from a tree that is not installed."""
    onnx: str
    backend: str
    python: str
    os: str
    machine: str


class Subject(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The device."""

    id: str
    vendor: str
    name: str


class CaseResult(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One node case."""

    case: str
    operator: str
    outcome: str
    reason: str


class Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was found."""

    made_at: str
    device: Subject
    versions: Versions
    selection: str
    """The text the case names were chosen by; empty where all were run."""
    counts: dict[str, int]
    coverage_percent: float
    """Passed cases of those run."""
    operators: dict[str, dict[str, int]]
    cases: list[CaseResult]


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Over the report as compact JSON with sorted keys, in UTF-8."""

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


def _signed_bytes(schema: str, report: Report) -> bytes:
    return msgspec.json.encode([schema, report], order="sorted")


def sign(report: Report, key: Ed25519PrivateKey) -> Signed:
    """The report with the signature of whoever ran it."""
    public = key.public_key().public_bytes_raw()
    made = Signature(
        "ed25519", public.hex(), hashlib.sha256(public).hexdigest(), key.sign(_signed_bytes(SCHEMA, report)).hex()
    )
    return Signed(SCHEMA, report, made)


def verified(content: bytes) -> Signed:
    """A report whose signature holds. Raises ReportError. Who holds the key is for the reader to know."""
    if len(content) > MOST_BYTES:
        raise ReportError(t("The file is larger than any conformance report."))
    try:
        signed = msgspec.json.decode(content, type=Signed)
        public = bytes.fromhex(signed.signature.public_key)
        value = bytes.fromhex(signed.signature.value)
        key = Ed25519PublicKey.from_public_bytes(public)
    except (msgspec.MsgspecError, ValueError) as error:
        raise ReportError(t("The file is no conformance report: {reason}", reason=error)) from error
    if signed.schema != SCHEMA or signed.signature.algorithm != "ed25519":
        raise ReportError(t("The report is of a schema or a signature that this version does not know."))
    if hashlib.sha256(public).hexdigest() != signed.signature.fingerprint:
        raise ReportError(t("The fingerprint is not that of the key in the report."))
    try:
        key.verify(value, _signed_bytes(signed.schema, signed.report))
    except InvalidSignature as error:
        raise ReportError(t("The signature does not hold: the report was changed after it was signed.")) from error
    return signed


def page(signed: Signed) -> str:
    """The report as one HTML page in the language in use, without script or network; the JSON is what is signed."""
    report = signed.report
    facts: list[tuple[str, object]] = [
        (t("device"), f"{report.device.id} ({report.device.name})"), (t("made at"), report.made_at),
        (t("cases chosen by"), report.selection or t("all")), (t("coverage"), f"{report.coverage_percent} %"),
        *((t(name), count) for name, count in report.counts.items()),
        *((name, value) for name, value in msgspec.structs.asdict(report.versions).items()),
        (t("signed by (SHA-256 of the Ed25519 key)"), signed.signature.fingerprint),
    ]
    operators = [(name, *counts.values()) for name, counts in report.operators.items()]
    missed = [(one.case, t(one.outcome), one.reason) for one in report.cases if one.outcome != "passed"]
    title = t("Conformance of {device}", device=report.device.id)
    return "".join((
        f'<!doctype html>\n<html lang="{"zh-CN" if chinese() else "en"}"><head><meta charset="utf-8">',
        f"<title>{_text(title)}</title><style>body{{font-family:sans-serif;margin:2em}}",
        "table{border-collapse:collapse}td,th{border:1px solid #999;padding:.2em .6em;text-align:left}</style></head>",
        f"<body><h1>{_text(title)}</h1>", _table((), facts), f"<h2>{_text(t('By operator'))}</h2>",
        _table((t("operator"), *map(t, report.counts)), operators),
        f"<h2>{_text(t('Not passed'))}</h2>", _table((t("case"), t("outcome"), t("reason")), missed),
        "</body></html>\n",
    ))


def _text(value: object) -> str:
    return html.escape(str(value))


def _table(head: tuple[str, ...], rows: Any) -> str:  # noqa: ANN401 - rows of anything that can be printed
    top = "<tr>" + "".join(f"<th>{_text(cell)}</th>" for cell in head) + "</tr>" if head else ""
    body = "".join("<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table>{top}{body}</table>"
