"""Log in, tokens, the audit log, and the dependency that every other route is guarded with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, cast

from fastapi import APIRouter, Depends, Query, Request, Response

from app import times
from app.access import service
from app.access.schemas import (
    NEEDS,
    AuditEntry,
    AuditPage,
    Issued,
    Login,
    Me,
    NewPassword,
    NewToken,
    Principal,
    TokenView,
)
from app.db import Engine
from app.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Callable

router = APIRouter(prefix="/api/v1", tags=["access"])


def database(request: Request) -> Engine:
    """The engine of this process."""
    return cast("Engine", request.app.state.engine)


Database = Annotated[Engine, Depends(database)]


def bearer(authorization: str) -> str:
    """The token in the header Authorization. Problem 401 when there is none."""
    kind, _, token = authorization.partition(" ")
    if kind.lower() != "bearer" or not token or len(token) > 200:  # noqa: PLR2004 - ours are 46 characters long
        raise Problem(
            401,
            "not_authenticated",
            "Log in first",
            "Send the header Authorization: Bearer <token>.",
            headers={"WWW-Authenticate": "Bearer"},
        )
    return token.strip()


def principal(request: Request, engine: Database) -> Principal:
    """Who is asking, by the bearer token. Problem 401 when there is none or it is no longer good."""
    return service.authenticate(engine, bearer(request.headers.get("authorization", "")))


def require(role: str) -> Callable[[Principal], Principal]:
    """A dependency that lets this role and those above it through. Problem 403 for the others."""
    needed = NEEDS[role]

    def guard(who: Annotated[Principal, Depends(principal)]) -> Principal:
        if needed not in who.permissions:
            raise Problem(403, "not_permitted", "You may not do this", f"It needs the permission {needed!r}.")
        return who

    return guard


Viewer = Annotated[Principal, Depends(require("viewer"))]
Operator = Annotated[Principal, Depends(require("operator"))]
Engineer = Annotated[Principal, Depends(require("engineer"))]
Auditor = Annotated[Principal, Depends(require("auditor"))]


@router.post("/session", operation_id="logIn", status_code=201)
def log_in(body: Login, engine: Database) -> Issued:
    """A session token for a name and a password."""
    token, who = service.log_in(engine, body.name, body.password.get_secret_value())
    expires = times.rfc3339(times.now() + service.SESSION_S * times.NANOS)
    return Issued(token=token, expires_at=expires, name=who.name, permissions=sorted(who.permissions))


@router.delete("/session", operation_id="logOut", status_code=204)
def log_out(who: Annotated[Principal, Depends(principal)], engine: Database) -> Response:
    """End the session that asks."""
    service.revoke(engine, who, who.token_id)
    return Response(status_code=204)


@router.get("/me", operation_id="whoAmI")
def me(who: Annotated[Principal, Depends(principal)], engine: Database) -> Me:
    """Name, role and permissions of whoever asks."""
    return Me(
        name=who.name,
        role=who.role,
        permissions=sorted(who.permissions),
        must_change_password=service.must_change(engine, who),
    )


@router.post("/me/password", operation_id="changePassword", status_code=204)
def change_password(body: NewPassword, who: Annotated[Principal, Depends(principal)], engine: Database) -> Response:
    """Replace one's password; every session ends."""
    service.change_password(engine, who, body.current.get_secret_value(), body.new.get_secret_value())
    return Response(status_code=204)


@router.post("/tokens", operation_id="createToken", status_code=201)
def create_token(body: NewToken, who: Annotated[Principal, Depends(principal)], engine: Database) -> Issued:
    """An API token, shown once."""
    token, expires = service.create_token(engine, who, name=body.name, permissions=body.permissions, days=body.days)
    return Issued(token=token, expires_at=times.rfc3339(expires), name=body.name, permissions=sorted(body.permissions))


@router.get("/tokens", operation_id="listTokens")
def list_tokens(who: Annotated[Principal, Depends(principal)], engine: Database) -> list[TokenView]:
    """One's own tokens, without their secrets."""
    return [
        TokenView(
            id=row.id,
            name=row.name,
            kind=row.kind,
            permissions=row.scopes,
            created_at=times.rfc3339(row.created_at),
            expires_at=times.rfc3339(row.expires_at),
            revoked_at=times.optional_rfc3339(row.revoked_at),
        )
        for row in service.tokens(engine, who)
    ]


@router.delete("/tokens/{token_id}", operation_id="revokeToken", status_code=204)
def revoke_token(token_id: int, who: Annotated[Principal, Depends(principal)], engine: Database) -> Response:
    """End a token."""
    service.revoke(engine, who, token_id)
    return Response(status_code=204)


@router.get("/audit", operation_id="listAudit")
def audit(
    _who: Auditor,
    engine: Database,
    cursor: Annotated[int | None, Query(ge=1)] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> AuditPage:
    """The audit log, newest first."""
    rows, intact = service.audit_page(engine, cursor, limit)
    items = [
        AuditEntry(
            id=r.id,
            at=times.rfc3339(r.at),
            who=r.who,
            action=r.action,
            target=r.target,
            detail=r.detail,
            digest=r.digest,
        )
        for r in rows
    ]
    return AuditPage(items=items, next=str(rows[-1].id) if len(rows) == limit else None, intact=intact)
