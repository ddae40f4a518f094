"""`headrace conform`: the conformance kit on one device, as a signed report; the kit as an archive for other hosts."""

from __future__ import annotations

import platform
import tempfile
import time
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import onnx
import typer

from app import settings
from app.commands.conform_report import ReportError, own_key, sign
from app.commands.console import chinese, err, fail, out, t
from app.commands.running import Data, choose_data
from app.times import rfc3339
from inference import Device, InvalidModelError, backend, kitarchive, names
from inference.conformity import Own, precisions, question
from inference.devices import devices
from inference.kit.command import chosen
from inference.kit.page import page
from inference.kit.suite import SECTIONS, Material, Run, Section
from inference.kit.suite import report as plain
from inference.kitmodels import material
from inference.model import import_model

_KEY = "conform.key"


def conform(  # noqa: PLR0913 - the options of a command
    context: typer.Context,
    *,
    device: Annotated[str, typer.Option(help="The device to judge, e.g. cpu; see headrace devices.")] = "",
    model: Annotated[Path | None, typer.Option(help="A model of yours as well: .onnx, folder, .zip.")] = None,
    report: Annotated[Path | None, typer.Option(help="File for the signed report (JSON).")] = None,
    html: Annotated[Path | None, typer.Option(help="File for the page that people read.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Run only this section; may be repeated.")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Without node cases, cancel and restart, and with 50 reloads.")
    ] = False,
    cases: Annotated[str, typer.Option(help="Run only the node cases whose name holds this.")] = "",
    reloads: Annotated[int | None, typer.Option(min=1, help="How often a model is made ready.")] = None,
    driver: Annotated[str, typer.Option(help="Driver, firmware and SDK as you know them, for the report.")] = "",
    key: Annotated[
        Path | None, typer.Option(help="Ed25519 private key (PEM); by default one is made once in the data folder.")
    ] = None,
    archive: Annotated[
        Path | None, typer.Option(help="Write the whole kit here instead, to be run on another host: conform.pyz.")
    ] = None,
    data: Data = None,
) -> None:
    """Run the conformance kit on a device and sign what was found; exit status 1 when a section failed."""
    if context.invoked_subcommand is not None:
        return
    choose_data(data)
    if archive is not None:
        _archive(archive, cases)
        return
    if not device or report is None:
        raise fail(t("Give --device and --report, or --archive; to check a report: headrace conform verify FILE"), 2)
    unknown = [one for one in only or [] if one not in SECTIONS]
    if unknown:
        raise fail(t("There is no section {name}; there are: {names}", name=unknown[0], names=", ".join(SECTIONS)), 2)
    found = _device(device)
    try:
        own = own_key(key or settings.settings().data_dir / _KEY, make=key is None)
    except ReportError as error:
        raise fail(str(error)) from error
    wanted, times = chosen(only or [], quick=quick, reloads=reloads)
    sections = _sections(found, _material(model, cases, wanted), wanted, times)
    about = {"id": found.id, "vendor": found.vendor, "name": found.name}
    made = plain(sections, made_at=rfc3339(time.time_ns()), device=about, versions=_versions(found, driver),
                 selection=cases, reloads=times)  # fmt: skip
    signed = sign(made, own)
    _write(report, msgspec.json.format(msgspec.json.encode(signed)))
    if html is not None:
        _write(html, page(signed, "zh" if chinese() else "en").encode())
    _tell(sections, made["verdict"])
    print_key = signed["signature"]["fingerprint"]
    out.print(t("{file} is signed with the key {key}", file=report, key=print_key), markup=False)
    if made["verdict"] == "failed":
        raise typer.Exit(1)


def _material(model: Path | None, cases: str, wanted: list[str]) -> Material:
    """What is asked; a model of one's own comes first, so that the sections about the session use it."""
    made = material(cases, with_cases="nodes" in wanted)
    if "nodes" in wanted and not made.cases:
        raise fail(t("No case has {part} in its name.", part=cases))
    if "nodes" in wanted:
        right, yardstick = kitarchive.right(made.cases)
        made = replace(made, right=right, yardstick=yardstick)
    if model is None:
        return made
    with tempfile.TemporaryDirectory(prefix="headrace-conform-") as folder:
        try:
            mine = question(import_model(model, Path(folder)))
        except InvalidModelError as error:
            raise fail(str(error)) from error
    return replace(made, questions=(mine, *made.questions))


def _sections(found: Device, asked: Material, wanted: list[str], times: int) -> list[Section]:
    used = backend(found.vendor)
    return Run(Own(used, found, precisions(used)), asked, wanted, times, _progress).sections()


def _progress(section: str, done: int, total: int) -> None:
    if not done:
        err.print(t("{section} …", section=t(section)), markup=False)
    elif err.is_terminal:
        err.print(f"  {done}/{total}", end="\r", markup=False)


def _tell(sections: list[Section], verdict: str) -> None:
    for one in sections:
        reason = f": {one.reason[:300]}" if one.reason else ""
        out.print(f"{t(one.section)}: {t(one.verdict)}{reason}", markup=False)
        if one.section == "nodes" and one.facts:
            counts = ", ".join(f"{t(name)} {count}" for name, count in one.facts["counts"].items())
            out.print(f"  {counts}", markup=False)
            known = t("{yardstick}: {passed} passed", yardstick=one.facts["yardstick"],
                      passed=one.facts["yardstick_passed"])  # fmt: skip
            out.print(f"  {known}", markup=False)
    out.print(t("Verdict: {verdict}", verdict=t(verdict)), markup=False)


def _archive(target: Path, cases: str) -> None:
    made = material(cases)
    right, yardstick = kitarchive.right(made.cases)
    try:
        kitarchive.write(target, replace(made, right=right, yardstick=yardstick), _installed())
    except OSError as error:
        raise fail(t("{file} cannot be written: {reason}", file=target, reason=error.strerror)) from error
    size = target.stat().st_size / 1e6
    out.print(t("{file} is written: {count} cases, {size:.1f} MB. On the other host: python3 {name} --help",
                file=target, count=len(made.cases), size=size, name=target.name), markup=False)  # fmt: skip


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


def _versions(device: Device, driver: str) -> dict[str, Any]:
    return {
        "headrace": _installed(), "onnx": onnx.__version__, "backend": device.backend,
        "python": platform.python_version(), "numpy": np.__version__, "os": platform.platform(),
        "machine": platform.machine(), "driver": driver, "way": "gateway",
    }


def _installed() -> str:
    """The version of the distribution the gateway runs from; from a bare clone it has none to state."""
    found = next(iter(metadata.distributions(name="headrace")), None)
    return "" if found is None else found.version
