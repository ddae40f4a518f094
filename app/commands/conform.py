"""`headrace conform`: ONNX's node cases on one device, as a signed report; and the check of such a report."""

from __future__ import annotations

import platform
import time
from importlib import metadata
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from app import settings
from app.commands.conform_report import (
    CaseResult,
    Report,
    ReportError,
    Subject,
    Versions,
    own_key,
    page,
    sign,
    verified,
)
from app.commands.console import fail, out, t
from app.commands.running import Data, choose_data
from app.times import rfc3339
from inference import Device, backend, names
from inference.devices import devices
from inference.nodecases import OUTCOMES, Result, by_operator, cases, run

_KEY = "conform.key"


def conform(
    context: typer.Context,
    *,
    device: Annotated[str, typer.Option(help="The device to judge, e.g. cpu; see headrace devices.")] = "",
    report: Annotated[Path | None, typer.Option(help="File for the signed report (JSON).")] = None,
    html: Annotated[Path | None, typer.Option(help="File for the page that people read.")] = None,
    only: Annotated[str, typer.Option(help="Run only the cases whose name holds this.")] = "",
    key: Annotated[
        Path | None, typer.Option(help="Ed25519 private key (PEM); by default one is made once in the data folder.")
    ] = None,
    data: Data = None,
) -> None:
    """Run ONNX's node cases on a device and sign what was found; exit status 1 when a case did not pass."""
    if context.invoked_subcommand is not None:
        return
    choose_data(data)
    if not device or report is None:
        raise fail(t("Give --device and --report; to check a report: headrace conform verify FILE"), 2)
    chosen = _device(device)
    try:
        own = own_key(key or settings.settings().data_dir / _KEY, make=key is None)
    except ReportError as error:
        raise fail(str(error)) from error
    wanted = cases(only)
    if not wanted:
        raise fail(t("No case has {part} in its name.", part=only))
    signed = sign(_report(chosen, only, list(run(backend(chosen.vendor), chosen, wanted))), own)
    _write(report, msgspec.json.format(msgspec.json.encode(signed)))
    if html is not None:
        _write(html, page(signed).encode())
    for outcome, count in signed.report.counts.items():
        out.print(f"{t(outcome)}: {count}", markup=False)
    out.print(t("{file} is signed with the key {key}", file=report, key=signed.signature.fingerprint), markup=False)
    if signed.report.counts["passed"] != len(wanted):
        raise typer.Exit(1)


def verify(file: Annotated[Path, typer.Argument(help="The report (JSON).")]) -> None:
    """Check that a report is as it was signed, and show whose key signed it."""
    try:
        signed = verified(file.read_bytes())
    except OSError as error:
        raise fail(t("{file} cannot be read: {reason}", file=file, reason=error.strerror)) from error
    except ReportError as error:
        raise fail(str(error)) from error
    found = signed.report
    out.print(t("The signature holds. Compare the key with the one its owner gives you:"), markup=False)
    out.print(f"  {signed.signature.fingerprint}", markup=False)
    out.print(
        t("{device}: {passed} of {all} cases passed, {made_at}", device=found.device.id, passed=found.counts["passed"],
          all=len(found.cases), made_at=found.made_at), markup=False,
    )


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise fail(t("{file} cannot be written: {reason}", file=path, reason=error.strerror)) from error


def _device(wanted: str) -> Device:
    if wanted.partition(":")[0] not in names():
        raise fail(t("There is no maker {name}; there are: {names}", name=wanted, names=", ".join(names())))
    found, missing = devices()
    for one in found:
        if wanted in (one.id, one.vendor):
            return one
    reasons = "; ".join(one.reason for one in missing if one.vendor == wanted.partition(":")[0])
    raise fail(t("{device} is not here: {reason}", device=wanted, reason=reasons or t("see headrace devices")))


def _report(device: Device, selection: str, results: list[Result]) -> Report:
    counts: dict[str, int] = {outcome: sum(one.outcome == outcome for one in results) for outcome in OUTCOMES}
    versions = Versions(
        metadata.version("headrace") if _installed() else "", metadata.version("onnx"), device.backend,
        platform.python_version(), platform.platform(), platform.machine(),
    )
    return Report(
        made_at=rfc3339(time.time_ns()), device=Subject(device.id, device.vendor, device.name), versions=versions,
        selection=selection, counts=counts, coverage_percent=round(100 * counts["passed"] / len(results), 2),
        operators=by_operator(results),
        cases=[CaseResult(one.case, one.operator, one.outcome, one.reason) for one in results],
    )


def _installed() -> bool:
    """Whether the gateway runs from an installed distribution; from a bare clone it has no version to state."""
    return next(iter(metadata.distributions(name="headrace")), None) is not None
