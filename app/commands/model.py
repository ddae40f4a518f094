"""`headrace model import`, `sign` and `verify`: a model package in the store, and who vouches for its content."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from app import settings
from app.commands import verdicts
from app.commands.console import as_json, fail, out, t
from app.commands.plant import Json, models_folder
from app.commands.running import Data, choose_data
from app.config.check import imported
from app.config.portable import judge
from inference import InferenceError, InvalidModelError, Model, signature
from inference.kit.signing import KeyFileError
from inference.lint import vendors
from inference.model import import_model
from inference.signature import Algorithm

Package = Annotated[Path, typer.Argument(help="The model: an .onnx file, a package folder or a .zip.")]


def sign(
    package: Package,
    *,
    key: Annotated[Path, typer.Option(help="Private key (PEM), made where it is absent; its kind decides.")],
    algorithm: Annotated[Algorithm, typer.Option(help="Of a key that is made: ed25519, or sm2 with SM3.")] = "ed25519",
) -> None:
    """Check a model package and sign its content: the signature lies beside it, in NAME.sig."""
    with tempfile.TemporaryDirectory(prefix="headrace-sign-") as folder:
        model = _checked(package, Path(folder))
        target = signature.beside(package)
        try:
            if not key.exists():
                signature.make(key, algorithm)
            made = signature.sign(model, key)
            target.write_bytes(made)
            found = signature.check(model, made)
        except (InferenceError, KeyFileError) as error:
            raise fail(str(error)) from error
        except OSError as error:
            raise fail(t("{file} cannot be written: {reason}", file=target, reason=error.strerror)) from error
    out.print(t("{file}: {digest}, {sm3}", file=target, digest=model.digest, sm3=model.sm3), markup=False)
    out.print(t("Signed ({algorithm}) with the key {key}", algorithm=found.algorithm, key=found.fingerprint),
              markup=False)  # fmt: skip


def verify(package: Package) -> None:
    """Check the signature beside a model package; exit status 1 when there is none, or when it does not hold."""
    with tempfile.TemporaryDirectory(prefix="headrace-sign-") as folder:
        model = _checked(package, Path(folder))
        try:
            content = signature.given(package)
            if content is None:
                raise fail(t("There is no signature {file}.", file=signature.beside(package)))
            found = signature.check(model, content)
        except InferenceError as error:
            raise fail(str(error)) from error
        except OSError as error:
            raise fail(t("{file} cannot be read: {reason}", file=package, reason=error.strerror)) from error
    out.print(t("The signature ({algorithm}) holds. Compare the key with the one its owner gives you:",
                algorithm=found.algorithm), markup=False)  # fmt: skip
    out.print(f"  {found.fingerprint}", markup=False)
    if found.fingerprint in settings.settings().trusted_signers:
        out.print(t("It is one of HEADRACE_TRUSTED_SIGNERS."), markup=False)


def import_(
    package: Package,
    *,
    vendor: Annotated[list[str] | None, typer.Option(help="Judge it for this maker only; may be repeated.")] = None,
    json_: Json = False,
    data: Data = None,
) -> None:
    """Check a model package into the store, for plant files that name its digest; say which devices will refuse it."""
    choose_data(data)
    wanted = vendor or []
    for one in wanted:
        if one not in vendors():
            raise fail(t("There is no maker {name}; there are: {names}", name=one, names=", ".join(vendors())))
    try:
        made = imported(package, models_folder())
    except InferenceError as error:
        raise fail(str(error)) from error
    except OSError as error:
        raise fail(t("{file} cannot be read: {reason}", file=package, reason=error.strerror)) from error
    found = [judge(made.name, made, wanted)]
    if json_:
        as_json({"name": made.name, "version": made.version, "digest": made.digest, "sm3": made.sm3,
                 **verdicts.as_members(found)})  # fmt: skip
        return
    out.print(t("{name} {version} is in the store: {digest}", name=made.name, version=made.version, digest=made.digest),
              markup=False)  # fmt: skip
    verdicts.told(found)


def _checked(package: Path, store: Path) -> Model:
    try:
        return import_model(package, store)
    except InvalidModelError as error:
        raise fail(str(error)) from error
