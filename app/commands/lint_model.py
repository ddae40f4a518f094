"""`headrace lint-model`: on which maker's chip a model runs, which nodes are refused and why, and which passes help."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from app.commands.console import as_json, fail, out, t, table
from app.commands.show import Json
from app.commands.verdicts import VERDICTS, about, reasons, said, verdict_json
from inference import InvalidModelError
from inference.lint import Precision, Verdict, lint, vendors
from inference.model import import_model

if TYPE_CHECKING:
    from inference.legalize import Done

_OUTCOMES: Final = {"applied": "applied", "unchanged": "nothing to do", "refused": "refused"}

def lint_model(
    file: Annotated[Path, typer.Argument(help="The model: an .onnx file, a package folder or a .zip.")],
    *,
    vendor: Annotated[str, typer.Option(help="Every route of this maker only, with every reason.")] = "",
    precision: Annotated[
        Precision, typer.Option(help="Bring the model itself to fp16 or int8, if its answers allow it.")
    ] = "fp32",
    output: Annotated[
        Path | None, typer.Option(help="Write the model here as it is after the passes; needs --vendor.")
    ] = None,
    json_: Json = False,
) -> None:
    """Judge a model against what is known of each maker's chip; exit status 1 when --vendor refuses it."""
    if vendor and vendor not in vendors():
        raise fail(t("There is no maker {name}; there are: {names}", name=vendor, names=", ".join(vendors())))
    if output is not None and (not vendor or not output.parent.is_dir()):
        raise fail(t("--output takes a file in a folder that is there, and needs --vendor."), 2)
    verdicts = _judged(file, vendor, precision, output)
    if json_:
        as_json([verdict_json(one) for one in verdicts])
    elif vendor:
        _one_by_one(verdicts)
    else:
        _as_table(verdicts)
    good = [one for one in verdicts if one.outcome != "refused"]
    if output is not None and good and not json_:
        out.print(t("{file} is written for {route}.", file=output, route=good[0].route), markup=False)
    if vendor and not good:
        raise typer.Exit(1)


def _judged(file: Path, vendor: str, precision: Precision, output: Path | None) -> tuple[Verdict, ...]:
    with tempfile.TemporaryDirectory(prefix="headrace-lint-") as folder:
        try:
            model = import_model(file, Path(folder))
            return lint(model, (vendor,) if vendor else (), every=bool(vendor), precision=precision, write=output)
        except InvalidModelError as error:
            raise fail(str(error)) from error
        except OSError as error:
            raise fail(t("{file} cannot be written: {reason}", file=output, reason=error.strerror)) from error


def _as_table(verdicts: tuple[Verdict, ...]) -> None:
    columns = ("vendor", "route", "evidence", "verdict", "passes", "reason", "not documented")
    rows = [
        (
            one.vendor, one.route, one.evidence, t(VERDICTS[one.outcome]), ", ".join(one.passes),
            reasons(one.problems), ", ".join(map(said, one.unknown)),
        )
        for one in verdicts
    ]
    table("", [t(c) for c in columns], rows)
    out.print(
        t("Verdicts come from documents; a device decides at its check. More: headrace lint-model FILE --vendor NAME"),
        markup=False,
    )


def _one_by_one(verdicts: tuple[Verdict, ...]) -> None:
    for one in verdicts:
        verdict = t(VERDICTS[one.outcome])
        out.print(f"{one.vendor}, {one.route} ({one.evidence}): {verdict}", markup=False, style="bold")
        for problem in one.problems:
            out.print(f"  {about(problem)}", markup=False)
        for done in one.done:
            out.print(f"  {_tried(done)}", markup=False)
        if one.unknown:
            told = ", ".join(map(said, one.unknown))
            out.print("  " + t("not documented: {facts}", facts=told), markup=False)


def _tried(done: Done) -> str:
    if done.outcome == "applied" and done.max_abs is not None:
        return t("pass {name}: applied, {judge} differs by up to {most}", name=done.name, judge=done.judge,
                 most=f"{done.max_abs:.2g}")
    return t("pass {name}: {outcome}", name=done.name, outcome=t(_OUTCOMES[done.outcome]))
