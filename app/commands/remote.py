"""A running gateway asked over its REST API, and a plant file made ready to be sent to it."""

from __future__ import annotations

import http.client
import ipaddress
import ssl
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msgspec
import yaml

from app.config.check import check_document
from app.config.document import parse, read
from app.config.secrets import is_reference, reference_key, resolve
from app.settings import variable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.config.desired import Desired
    from app.config.document import Document

TOKEN: Final = "HEADRACE_TOKEN"  # noqa: S105 - the name of a variable
MAX_ANSWER: Final = 16 * 2**20
TIMEOUT_S: Final = 900.0
"""A model's check takes up to five minutes on each device of its order."""


class RemoteError(Exception):
    """The gateway was not reached, or refused; the message says why, `errors` what is wrong with what was sent."""

    def __init__(self, message: str, errors: tuple[str, ...] = ()) -> None:
        """`errors`: one line each, `LINE:COLUMN: text` where they concern the plant file."""
        super().__init__(message)
        self.errors = errors


class Gateway:
    """One gateway's API."""

    def __init__(self, url: str, token: str, ca_file: Path | None = None, *, plain: bool = False) -> None:
        """RemoteError when the address is none, or would carry the token in the clear unless `plain` allows it."""
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            message = f"{url} is no address of a gateway: write https://HOST:PORT"
            raise RemoteError(message)
        if parts.scheme == "http" and not plain and not _loopback(parts.hostname):
            message = f"{url} would carry token and secrets in the clear: use https, or --plain-http on a trusted line"
            raise RemoteError(message)
        self._parts, self._token, self._ca_file = parts, token, ca_file

    def ask(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - any JSON value
        """What the API answers. RemoteError for a problem, or when there is no answer."""
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        sent = None if body is None else msgspec.json.encode(body)
        try:
            line = self._line()
            try:
                line.request(method, f"{self._parts.path.rstrip('/')}{path}", sent, headers)
                answer = line.getresponse()
                status, text = answer.status, answer.read(MAX_ANSWER + 1)
            finally:
                line.close()
        except (OSError, http.client.HTTPException, ValueError) as error:
            message = f"{self._parts.netloc} does not answer: {error}"
            raise RemoteError(message) from error
        return _answered(status, text)

    def _line(self) -> http.client.HTTPConnection:
        host, port = self._parts.hostname or "", self._parts.port
        if self._parts.scheme == "http":
            return http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
        trusted = ssl.create_default_context(cafile=None if self._ca_file is None else str(self._ca_file))
        return http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=trusted)


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _answered(status: int, text: bytes) -> Any:  # noqa: ANN401 - any JSON value
    try:
        found: Any = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        message = f"what answers is no gateway (status {status})"
        raise RemoteError(message) from error
    if status < http.HTTPStatus.BAD_REQUEST:
        return found
    problem = found if isinstance(found, dict) else {}
    said = " ".join(str(problem[key]) for key in ("title", "detail") if problem.get(key))
    listed = problem.get("errors")
    errors = (
        f"{str(one.get('pointer', '')).removeprefix('/document:')}: {one.get('detail', '')}"
        for one in (listed if isinstance(listed, list) else ())
        if isinstance(one, dict)
    )
    raise RemoteError(said or f"status {status}", tuple(errors))


def token(file: Path | None) -> str:
    """The API token: from this file, else from the variable HEADRACE_TOKEN. RemoteError when there is none."""
    found = variable(TOKEN) if file is None else file.read_text(encoding="utf-8").strip()
    if not found:
        message = f"a token is needed: --token-file, or the variable {TOKEN}"
        raise RemoteError(message)
    return found


@contextmanager
def prepared(file: Path) -> Iterator[tuple[Desired, dict[str, Any]]]:
    """A plant file, checked here first, as long as this context, and what is sent for it. DocumentError.

    Models are sent by digest, secrets beside the document.
    """
    document = read(file)
    with tempfile.TemporaryDirectory(prefix="headrace-check-") as store:
        desired = check_document(document, Path(store))
        base = Path(document.file).resolve().parent
        secrets = {reference_key(one): resolve(one, base)[0] for one in _references(document)}
        yield desired, {"document": by_digest(document, desired), "secrets": secrets}


def _references(document: Document) -> Iterator[dict[str, object]]:
    for section in ("connections", "northbound"):
        for entry in document.data.get(section) or ():
            yield from (value for value in (entry.get("options") or {}).values() if is_reference(value))


def by_digest(document: Document, desired: Desired) -> str:
    """The file's text with each model's path replaced by its digest; every line stays where it is."""
    root = yaml.compose(document.text, Loader=yaml.SafeLoader)
    text = document.text
    for name, path in reversed(list(_paths(root))):
        start, end = path[0].start_mark.index, path[1].end_mark.index
        text = f"{text[:start]}digest: {desired.models[name].model.digest}{text[end:]}"
    parse(text, document.file)
    return text


def _paths(root: yaml.Node | None) -> Iterator[tuple[str, tuple[yaml.Node, yaml.Node]]]:
    """Name of each model that has a path, with the key and the value; in the order of the text."""
    models = _child(root, "models")
    for entry in models.value if models is not None else ():
        name, path = _child(entry, "name"), _pair(entry, "path")
        if name is not None and path is not None:
            yield name.value, path


def _child(node: yaml.Node | None, key: str) -> yaml.Node | None:
    found = _pair(node, key)
    return None if found is None else found[1]


def _pair(node: yaml.Node | None, key: str) -> tuple[yaml.Node, yaml.Node] | None:
    pairs = node.value if isinstance(node, yaml.MappingNode) else ()
    return next(((k, v) for k, v in pairs if isinstance(k, yaml.ScalarNode) and k.value == key), None)
