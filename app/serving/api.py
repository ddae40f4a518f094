"""The Open Inference Protocol v2 over HTTP: an ASGI application that answers `/v2` itself and leaves the rest.

It stands beside FastAPI and not in it: what FastAPI does for a request costs several times what a small model does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from importlib.metadata import version as release
from typing import TYPE_CHECKING, Any, Final

import msgspec
from fastapi import APIRouter, Request

from app.access.api import Viewer, bearer
from app.access.service import authenticate
from app.api import View
from app.db import UnreachableError
from app.errors import Problem
from app.log import get_logger
from app.serving.schemas import answer, parse
from app.serving.service import NEWEST
from app.tensors import datatype_of
from inference.adapters.tensors import numpy_dtype
from inference.limits import MIB

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from app.certificates.schemas import Standing
    from app.serving.schemas import Version
    from app.serving.service import Loaded, Serving

_log = get_logger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = dict[bytes, bytes]

MAX_BODY: Final = 64 * MIB
MAX_BODIES: Final = 256 * MIB
"""Of all requests under way."""
KNOWN_S: Final = 2.0
"""How long a token is believed after it was looked up: one that is revoked is refused by then."""
MOST_KNOWN: Final = 1024
EXTENSIONS: Final = ["binary_tensor_data"]
_JSON: Final = (b"content-type", b"application/json")
_BINARY: Final = (b"content-type", b"application/octet-stream")
_ALWAYS: Final = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))
_encode: Final = msgspec.json.Encoder().encode

router = APIRouter(prefix="/api/v1", tags=["serving"])


class ServedView(View):
    """One model in memory that callers may ask."""

    name: str
    version: str
    digest: str
    device: str
    device_wanted: str
    joined: bool
    """Whether requests of several callers become one run."""
    megabytes: float
    requests: int
    rows: int
    runs: int
    refused: int
    waiting: int
    busy_s: float
    certificate: str
    """`valid`, `changed`, `failed` or `unchecked`, by the driver and runtime of now."""
    certificate_id: int | None
    override: str
    """Why it is run without one, where the operator said so."""


@router.get("/serving", operation_id="listServing")
def served(_who: Viewer, request: Request) -> list[ServedView]:
    """The models in memory for `/v2`, the most recently used first."""
    serving: Serving = request.app.state.serving
    return [_served(one, serving.admission.standing(one.subject)) for one in serving.loaded()]


def _served(one: Loaded, standing: Standing) -> ServedView:
    figures = one.batcher.figures
    return ServedView(
        name=one.version.name,
        version=one.version.version,
        digest=one.version.digest,
        device=one.choice.device.id,
        device_wanted=one.choice.requested,
        joined=one.batcher.ready.result(),
        megabytes=round(one.size / MIB, 3),
        requests=figures.requests,
        rows=figures.rows,
        runs=figures.runs,
        refused=figures.refused,
        waiting=one.batcher.waiting,
        busy_s=round(figures.busy_s, 3),
        certificate=standing.state,
        certificate_id=standing.certificate,
        override=one.override,
    )


class Doors:
    """Which tokens may infer. A token is looked up in the database, and then believed for a moment."""

    def __init__(self, engine: Engine) -> None:
        """Nobody is known yet."""
        self._engine = engine
        self._known: dict[bytes, float] = {}
        self._looking: dict[bytes, asyncio.Task[None]] = {}

    def open(self, authorization: bytes) -> bool:
        """Whether this header was found good a moment ago."""
        return self._known.get(authorization, 0.0) > time.monotonic()

    async def look(self, authorization: bytes) -> None:
        """Problem 401 for a token that is not good, 403 for one that may not infer. Those who ask at once ask once."""
        looking = self._looking.get(authorization)
        if looking is None:
            looking = self._looking[authorization] = asyncio.create_task(self._look(authorization))
            looking.add_done_callback(lambda _: self._looking.pop(authorization))
        await asyncio.shield(looking)

    async def _look(self, authorization: bytes) -> None:
        who = await asyncio.to_thread(authenticate, self._engine, bearer(authorization.decode("latin-1")))
        if "infer" not in who.permissions:
            raise Problem(403, "not_permitted", "this token lacks the permission 'infer': make one that has it")
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        self._known[authorization] = time.monotonic() + KNOWN_S


class OpenInference:
    """Answers what begins with `/v2`; everything else goes to the application beside it."""

    def __init__(self, beside: Callable[[Scope, Receive, Send], Awaitable[None]], serving: Serving) -> None:
        """`serving` is started and closed by whoever made it."""
        self._beside, self._serving = beside, serving
        self._doors = Doors(serving.engine)
        self._bodies = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http" or not (scope["path"] == "/v2" or scope["path"].startswith("/v2/")):
            await self._beside(scope, receive, send)
            return
        try:
            status, headers, body = 200, *await self._answered(scope, receive)
        except Problem as problem:
            status, headers, body = _told(problem)
        except UnreachableError:
            away = Problem(503, "busy", "the database does not answer: come again", headers={"Retry-After": "5"})
            status, headers, body = _told(away)
        except Exception as error:
            await _send(send, 500, [_JSON], b'{"error":"something went wrong in the gateway: its log says what"}')
            _log.error("request_failed", path=scope["path"], exc_info=error)
            raise
        await _send(send, status, headers, body)

    async def _answered(self, scope: Scope, receive: Receive) -> tuple[list[tuple[bytes, bytes]], bytes]:
        """Headers and body of a good answer. Problem for any other."""
        parts = scope["path"].strip("/").split("/")[1:]
        method = scope["method"]
        headers: Headers = dict(scope["headers"])
        if parts[:1] == ["health"]:
            _allow(method, "GET")
            return [_JSON], _encode(self._health(parts[1:]))
        authorization = headers.get(b"authorization", b"")
        if not self._doors.open(authorization):
            await self._doors.look(authorization)
        if len(parts) > 1 and parts[0] == "models":
            return await self._model(parts[1:], method, headers, receive)
        if parts:
            raise Problem(404, "not_found", f"there is no {scope['path'][:200]}")
        _allow(method, "GET")
        return [_JSON], _encode({"name": "headrace", "version": release("headrace"), "extensions": EXTENSIONS})

    def _health(self, parts: list[str]) -> dict[str, bool]:
        if parts == ["live"]:
            return {"live": True}
        if parts != ["ready"]:
            raise Problem(404, "not_found", "there are /v2/health/live and /v2/health/ready")
        reason = self._serving.state()
        if reason:
            raise Problem(503, "not_ready", reason)
        return {"ready": True}

    async def _model(
        self, parts: list[str], method: str, headers: Headers, receive: Receive
    ) -> tuple[list[tuple[bytes, bytes]], bytes]:
        """`NAME[/versions/VERSION][/infer|/ready]`."""
        name, *rest = parts
        version = NEWEST
        if len(rest) > 1 and rest[0] == "versions":
            version, rest = rest[1], rest[2:]
        if rest == ["infer"]:
            _allow(method, "POST")
            loaded = self._serving.ready(name, version)
            if loaded is None:
                loaded = await self._serving.load(await self._serving.version(name, version))
            return await self._infer(loaded, headers, receive)
        _allow(method, "GET")
        if rest == ["ready"]:
            await self._serving.load(await self._serving.version(name, version))
            return [_JSON], _encode({"name": name, "ready": True})
        if rest:
            raise Problem(404, "not_found", f"a model has /infer and /ready, not /{'/'.join(rest)[:100]}")
        versions = await self._serving.versions(name)
        return [_JSON], _encode(_metadata(await self._serving.version(name, version), versions))

    async def _infer(
        self, loaded: Loaded, headers: Headers, receive: Receive
    ) -> tuple[list[tuple[bytes, bytes]], bytes]:
        if headers.get(b"content-encoding", b"identity") != b"identity":
            raise Problem(415, "not_supported", "compressed bodies are not taken: send it as it is")
        size = _number(headers, b"content-length")
        reserved = MAX_BODY if size is None else size
        if reserved > MAX_BODY:
            raise Problem(413, "too_large", f"a request has at most {MAX_BODY} bytes: send fewer rows at a time")
        if self._bodies + reserved > MAX_BODIES:
            raise Problem(503, "busy", "other requests fill the memory: come again", headers={"Retry-After": "1"})
        self._bodies += reserved
        try:
            body = await _read(receive)
            asked = parse(body, _number(headers, b"inference-header-content-length"), loaded.wanted)
            loaded, outputs = await self._serving.infer(loaded, asked.feeds)
        finally:
            self._bodies -= reserved
        text, split = answer(loaded.head, asked, outputs)
        if split is None:
            return [_JSON], text
        return [_BINARY, (b"inference-header-content-length", str(split).encode())], text


def _metadata(one: Version, versions: list[Version]) -> dict[str, Any]:
    return {
        "name": one.name,
        "versions": [each.version for each in versions],
        "platform": "onnx_onnxv1",
        "inputs": [_tensor(each) for each in one.contract["inputs"]],
        "outputs": [_tensor(each) for each in one.contract["outputs"]],
    }


def _tensor(one: dict[str, Any]) -> dict[str, Any]:
    """-1 stands for a dimension that is free."""
    shape = [-1 if size is None else size for size in one["shape"]]
    return {"name": one["name"], "datatype": datatype_of(numpy_dtype(one["dtype"])), "shape": shape}


def _allow(method: str, allowed: str) -> None:
    if method != allowed:
        raise Problem(405, "method_not_allowed", f"use {allowed}", headers={"Allow": allowed})


def _number(headers: Headers, name: bytes) -> int | None:
    """Problem 400 when it is no number."""
    text = headers.get(name)
    if text is None:
        return None
    if not text.isdigit() or len(text) > len(str(2**63)):
        raise Problem(400, "bad_request", f"the header {name.decode()} is no number")
    return int(text)


async def _read(receive: Receive) -> bytes:
    """The whole body. Problem 413 when it goes on beyond the limit, 400 when the caller has gone."""
    parts: list[bytes] = []
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise Problem(400, "bad_request", "the connection was closed before the request had come")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MAX_BODY:
            raise Problem(413, "too_large", f"a request has at most {MAX_BODY} bytes: send fewer rows at a time")
        more = message.get("more_body", False)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _told(problem: Problem) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """As the protocol tells of errors: `{"error": "…"}`."""
    text = f"{problem.title}: {problem.detail}" if problem.detail else problem.title
    headers = [(name.lower().encode(), value.encode()) for name, value in problem.headers.items()]
    return problem.status, [_JSON, *headers], _encode({"error": text})


async def _send(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *_ALWAYS, length]})
    await send({"type": "http.response.body", "body": body})
