"""What every route shares: problems as RFC 9457 tells them, pages, security headers."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Annotated, Any, Final, Generic, TypeVar

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException

from app.errors import Problem
from app.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.responses import Response

_log = get_logger(__name__)

MAX_BODY: Final = 1 << 20
"""Bytes of a request."""
MEDIA_TYPE: Final = "application/problem+json"
_ZH: Final = {
    "wrong_credentials": "用户名或密码错误",
    "locked": "登录失败次数过多",
    "not_authenticated": "请重新登录",
    "not_permitted": "您没有此权限",
    "not_found": "未找到",
    "invalid_request": "请求内容有误",
    "beyond_role": "令牌权限不能超过其所有者",
    "too_large": "请求过大",
    "model_check_failed": "模型检查未通过",
    "unexpected": "网关内部错误",
    "bad_cursor": "分页游标无效",
}
"""Titles in zh-CN; a code that is not here keeps its English title. Codes are never translated."""
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

Item = TypeVar("Item")

Limit = Annotated[int, Query(ge=1, le=1000, description="rows on a page")]
From = Annotated[str | None, Query(alias="from")]
To = Annotated[str | None, Query(alias="to")]
Cursor = Annotated[str | None, Query(max_length=200, description="`next` of the page before")]


class View(BaseModel):
    """What the API answers with; built from rows."""

    model_config = ConfigDict(from_attributes=True)


class Page(BaseModel, Generic[Item]):
    """Some items and the cursor of the page after; null on the last one."""

    items: list[Item]
    next: str | None = None


def seal_cursor(*parts: object) -> str:
    """An opaque cursor out of the sort key of the last row."""
    return base64.urlsafe_b64encode("\x1f".join(str(part) for part in parts).encode()).decode()


def open_cursor(cursor: str | None, parts: int) -> list[str] | None:
    """The sort key inside a cursor; None for the first page. Problem 400 for one that is not ours."""
    if cursor is None:
        return None
    try:
        found = base64.b64decode(cursor.encode(), altchars=b"-_", validate=True).decode().split("\x1f")
    except (binascii.Error, UnicodeError) as error:
        raise Problem(400, "bad_cursor", "The cursor is not one of ours") from error
    if len(found) != parts:
        raise Problem(400, "bad_cursor", "The cursor is not one of ours")
    return found


def _chinese(request: Request) -> bool:
    return request.headers.get("accept-language", "").lower().startswith("zh")


def _answer(request: Request, problem: Problem) -> JSONResponse:
    title = _ZH.get(problem.code, problem.title) if _chinese(request) else problem.title
    content: dict[str, Any] = {
        "type": f"urn:headrace:problem:{problem.code}",
        "title": title,
        "status": problem.status,
        "detail": problem.detail,
        "instance": request.url.path,
        "code": problem.code,
    }
    if problem.errors:
        content["errors"] = [dict(error) for error in problem.errors]
    return JSONResponse(content, problem.status, headers={**problem.headers, **_HEADERS}, media_type=MEDIA_TYPE)


def _on_problem(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Problem)  # noqa: S101 - registered for this class only
    return _answer(request, error)


def _on_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class only
    code = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}.get(
        error.status_code, f"http_{error.status_code}"
    )
    return _answer(request, Problem(error.status_code, code, str(error.detail), headers=error.headers))


def _on_invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class only
    errors = [{"pointer": "/" + "/".join(str(p) for p in e["loc"]), "detail": str(e["msg"])} for e in error.errors()]
    return _answer(request, Problem(422, "invalid_request", "The request is not valid", "See errors.", errors=errors))


def _on_unexpected(request: Request, error: Exception) -> JSONResponse:
    _log.error("request_failed", path=request.url.path, exc_info=error)
    return _answer(
        request, Problem(500, "unexpected", "Something went wrong in the gateway", "The log has the traceback.")
    )


async def _secure(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await call_next(request)
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def install(app: FastAPI) -> None:
    """Problem answers for every error, security headers on every answer."""
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(Exception, _on_unexpected)
    app.middleware("http")(_secure)
