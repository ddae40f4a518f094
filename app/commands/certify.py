"""`headrace certify` and `certificates`: the activation check on this machine's devices, and what it found."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING, Annotated, Final

import typer

from app import times
from app.certificates import queries, service
from app.certificates.schemas import BATCH, PRECISION, certificate_json
from app.commands.console import as_json, chinese, fail, out, t, table
from app.commands.plant import database, models_folder
from app.commands.running import Data, choose_data
from app.models.queries import models
from app.pipelines.queries import pipelines
from app.watch.service import judge, unbalanced, uncertified
from inference.kit.precision import CLASSES

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from app.certificates.tables import CertificateRow

SHOWN: Final = 19
"""Characters of a digest."""
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Wanted = tuple[str, str]
"""A model's digest, a device."""


def certify(
    *,
    pipeline: Annotated[
        str | None, typer.Option(help="Of this pipeline: its model on each device of its order.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="A model by name or digest; with --device.")] = None,
    device: Annotated[str | None, typer.Option(help="On this device only, e.g. cpu; see headrace devices.")] = None,
    precision: Annotated[str, typer.Option(help="fp32, or what the device is to be asked for.")] = PRECISION,
    batch: Annotated[int, typer.Option(min=1, max=65536, help="Rows at which p99 is measured.")] = BATCH,
    p99_ms: Annotated[float | None, typer.Option("--p99-ms", min=0, help="Fail above this p99.")] = None,
    json_: Json = False,
    data: Data = None,
) -> None:
    """Check models on this machine's devices and record what was found; exit status 1 when a check did not pass."""
    choose_data(data)
    if precision not in CLASSES:
        raise fail(t("--precision is one of {names}.", names=", ".join(CLASSES)), 2)
    with database(make=False) as engine:
        wanted = _of_model(engine, model, device) if model is not None else _of_pipelines(engine, pipeline, device)
        rows = []
        for digest, on in wanted:
            asked = service.request(models_folder(), digest, on, precision=precision, batch=batch, p99_ms=p99_ms)
            rows.append(service.certify(engine, asked, getpass.getuser(), "certify"))
        judge(engine, [*unbalanced(engine), *uncertified(engine)])
        names = {one.digest: one.name for one in models(engine)}
    _show(rows, names, json_wanted=json_)
    if not rows or not all(row.passed for row in rows):
        raise typer.Exit(1)


def certificates(
    *,
    model: Annotated[str | None, typer.Option(help="Of this model only, by name or digest.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=queries.MOST, help="How many at most, newest first.")] = 100,
    json_: Json = False,
    data: Data = None,
) -> None:
    """List what checks of models on devices have found, newest first."""
    choose_data(data)
    with database(make=False) as engine:
        of = None if model is None else _digests(engine, model)
        rows = queries.certificates(engine, of, limit)
        names = {one.digest: one.name for one in models(engine)}
    _show(rows, names, json_wanted=json_)


def _digests(engine: Engine, wanted: str) -> list[str]:
    found = [one.digest for one in models(engine) if wanted == one.name or one.digest.startswith(wanted)]
    if not found:
        raise fail(t("There is no model {name}.", name=wanted))
    return found


def _of_model(engine: Engine, wanted: str, device: str | None) -> list[Wanted]:
    if device is None:
        raise fail(t("--model takes --device."), 2)
    return [(_digests(engine, wanted)[0], device)]


def _of_pipelines(engine: Engine, wanted: str | None, device: str | None) -> list[Wanted]:
    """Each model on each device, once."""
    active = {row.name: version for row, version in pipelines(engine) if version is not None}
    if wanted is not None and wanted not in active:
        raise fail(t("No pipeline {name} is in force.", name=wanted))
    chosen = [version for name, version in active.items() if wanted in {None, name}]
    pairs = [(one.model_digest, on) for one in chosen for on in one.spec["devices"]]
    return [*dict.fromkeys(one for one in pairs if device in {None, one[1]})]


def _show(rows: list[CertificateRow], names: dict[str, str], *, json_wanted: bool) -> None:
    if json_wanted:
        as_json([certificate_json(row) for row in rows])
        return
    columns = ("no.", "model", "device", "result", "nodes", "p99 ms", "driver", "at", "by")
    table("", [t(one) for one in columns], [_cells(row, names) for row in rows], numbers=(0, 5))
    language = "zh-CN" if chinese() else "en"
    for row in rows:
        if not row.passed:
            out.print(f"· {row.id}: {service.reason(row)[language]}", style="yellow", markup=False)


def _cells(row: CertificateRow, names: dict[str, str]) -> tuple[object, ...]:
    placed = row.placement
    return (
        row.id,
        names.get(row.model_digest, row.model_digest[:SHOWN]),
        row.device if row.precision == PRECISION else f"{row.device} {row.precision}",
        t(row.outcome),
        f"{placed['on_device']}/{placed['nodes']}" if placed else "-",
        "-" if row.p99_ns is None else f"{row.p99_ns / 1e6:.3f}",
        (row.driver or row.backend).partition(",")[0],
        times.rfc3339(row.at)[:SHOWN],
        row.made_by,
    )
