"""`headrace conform verify` and `import`: reports that others signed, and what they show of a device."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from app import settings
from app.commands import evidence
from app.commands.conform_report import ReportError, Signed, verified
from app.commands.console import fail, out, t, table
from app.commands.running import Data, choose_data
from inference import names

_FEWEST_DIGITS: Final = 16


def verify(file: Annotated[Path, typer.Argument(help="The report (JSON).")]) -> None:
    """Check that a report is as it was signed, and show whose key signed it."""
    signed, _ = _read(file)
    found = signed.report
    out.print(t("The signature holds. Compare the key with the one its owner gives you:"), markup=False)
    out.print(f"  {signed.signature.fingerprint}", markup=False)
    out.print(
        t("{device}: {verdict}, {made_at}, {backend}", device=found.device.id, verdict=t(found.verdict),
          made_at=found.made_at, backend=found.versions.backend), markup=False,
    )  # fmt: skip
    for one in found.sections:
        out.print(f"  {t(one.section)}: {t(one.verdict)}", markup=False)


def file_report(
    file: Annotated[Path, typer.Argument(help="The report (JSON).")],
    *,
    fingerprint: Annotated[
        str, typer.Option(help="The signer's fingerprint as its owner gave it to you: at least 16 digits of it.")
    ] = "",
    data: Data = None,
) -> None:
    """Put a report on file whose signer you know: its device is then verified-hardware, no longer documented."""
    choose_data(data)
    signed, content = _read(file)
    digits = fingerprint.replace(":", "").replace(" ", "").lower()
    if len(digits) < _FEWEST_DIGITS or not signed.signature.fingerprint.startswith(digits):
        raise fail(t("The report is signed with {key}: compare it with what its owner told you, and give --fingerprint",
                     key=signed.signature.fingerprint))  # fmt: skip
    if signed.report.device.vendor not in names():
        raise fail(t("There is no maker {name}; there are: {names}", name=signed.report.device.vendor,
                     names=", ".join(names())))  # fmt: skip
    missing = evidence.lacking(signed)
    if missing:
        raise fail(t("The report shows too little, or failures: {sections}", sections=", ".join(map(t, missing))))
    try:
        evidence.keep(settings.settings().data_dir, content)
    except OSError as error:
        raise fail(t("{file} cannot be written: {reason}", file=evidence.FOLDER, reason=error.strerror)) from error
    out.print(t("On file: {vendor} with {backend}, signed by {key}", vendor=signed.report.device.vendor,
                backend=signed.report.versions.backend, key=signed.signature.fingerprint), markup=False)  # fmt: skip


def listed(*, data: Data = None) -> None:
    """List the reports on file, and whose key signed them."""
    choose_data(data)
    rows = [
        (one.signed.report.device.vendor, one.signed.report.versions.backend, one.signed.report.made_at,
         t(one.signed.report.verdict), one.signed.signature.fingerprint)
        for one in evidence.filed(settings.settings().data_dir)
    ]  # fmt: skip
    columns = ("vendor", "backend", "made at", "verdict", "signed by (SHA-256 of the Ed25519 key)")
    table("", [t(one) for one in columns], rows)


def _read(file: Path) -> tuple[Signed, bytes]:
    try:
        content = file.read_bytes()
        return verified(content), content
    except OSError as error:
        raise fail(t("{file} cannot be read: {reason}", file=file, reason=error.strerror)) from error
    except ReportError as error:
        raise fail(str(error)) from error
