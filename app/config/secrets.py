"""References to secrets in a plant file: `{env: NAME}` and `{file: PATH}`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import SecretStr, ValidationError

from app.config.document import nearest
from app.settings import variable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel

MAX_SECRET: Final = 10_000
REMOTE: Final = "a file sent over the API cannot name files of this box"
PLAIN: Final = "a secret must not stand in the file: write {env: NAME} or {file: PATH}"


@dataclass(frozen=True, slots=True)
class Options:
    """Options as a connector takes them, and what is wrong with them."""

    values: dict[str, Any] = field(default_factory=dict)
    """Secrets in the clear: never logged, sealed before they are stored."""
    secrets: frozenset[str] = frozenset()
    """Keys at the top whose values are secret."""
    problems: tuple[tuple[tuple[str | int, ...], str, str], ...] = ()
    """Place within the options, message, hint."""


def is_reference(value: object) -> bool:
    """Whether this is `{env: …}` or `{file: …}` and nothing else."""
    return isinstance(value, dict) and len(value) == 1 and next(iter(value)) in {"env", "file"}


def reference_key(reference: Mapping[str, object]) -> str:
    """What a reference is called where its secret is sent beside the file: `env:NAME`, `file:PATH`."""
    kind, where = next(iter(reference.items()))
    return f"{kind}:{where}"


def resolve(reference: Mapping[str, object], base: Path, sent: Mapping[str, str] | None = None) -> tuple[str, str]:
    """The secret and an empty text, or an empty text and why there is none. With `sent` it is found nowhere else."""
    kind, where = next(iter(reference.items()))
    if not isinstance(where, str) or not where:
        return "", f"{kind} must name one"
    if sent is not None:
        found = sent.get(reference_key(reference))
        return ("", f"the secret {kind}:{where} was not sent with the file") if found is None else (found, "")
    if kind == "env":
        value = variable(where)
        return ("", f"the environment variable {where} is not set") if value is None else (value, "")
    try:
        with (base / where).open(encoding="utf-8") as file:
            text = file.read(MAX_SECRET + 1)
    except (OSError, UnicodeDecodeError) as error:
        return "", f"the file {where} cannot be read: {type(error).__name__}"
    return (text.rstrip("\r\n"), "") if len(text) <= MAX_SECRET else ("", f"the file {where} is too large for a secret")


def _is_path(key: str) -> bool:
    return key.endswith(("_file", "_files", "_certificates")) or key == "path"


def _secret_fields(model: type[BaseModel]) -> set[str]:
    return {name for name, info in model.model_fields.items() if "SecretStr" in str(info.annotation)}


def _absolute(values: dict[str, Any], base: Path) -> dict[str, Any]:
    """Paths in options are relative to the plant file."""

    def one(value: object) -> object:
        return str((base / value).resolve()) if isinstance(value, str) and value else value

    named = {key for key in values if _is_path(key)}
    return {
        key: ([one(v) for v in value] if isinstance(value, list) else one(value)) if key in named else value
        for key, value in values.items()
    }


def validated(
    model: type[BaseModel], given: Mapping[str, Any], base: Path, sent: Mapping[str, str] | None = None
) -> Options:
    """Options checked by a connector's own model, references resolved; every problem at once.

    With `sent` (see `app.config.check.Checker`) neither files nor variables of this box are looked at.
    """
    problems: list[tuple[tuple[str | int, ...], str, str]] = []
    secret = _secret_fields(model)
    values: dict[str, Any] = {}
    for key, value in given.items():
        if sent is not None and _is_path(key):
            problems.append(((key,), REMOTE, "apply it on the box itself"))
        elif is_reference(value):
            values[key], why = resolve(value, base, sent)
            if why:
                problems.append(((key,), why, "set it for the process that applies the file"))
        elif key in secret and value is not None:
            problems.append(((key,), PLAIN, ""))
            values[key] = value
        else:
            values[key] = value
    values = _absolute(values, base)
    try:
        model.model_validate({k: SecretStr(v) if k in secret and isinstance(v, str) else v for k, v in values.items()})
    except ValidationError as error:
        for one in error.errors(include_input=False, include_url=False):
            place = tuple(part for part in one["loc"] if isinstance(part, str | int))
            problems.append((place, _said(str(one["msg"])), _hint(str(one["type"]), place, model)))
    return Options(values, frozenset(secret & values.keys()), tuple(problems))


def _said(message: str) -> str:
    return "unknown key" if message.startswith("Extra inputs") else message


def _hint(kind: str, place: tuple[str | int, ...], model: type[BaseModel]) -> str:
    return nearest(str(place[-1]), list(model.model_fields)) if kind == "extra_forbidden" and place else ""
