"""Users, tokens and the audit log in the database."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from pwdlib import PasswordHash
from sqlalchemy import select, text, update

from app import times
from app.access.schemas import ROLES, Principal
from app.access.tables import AuditRow, TokenRow, UserRow
from app.db import reading, writing
from app.errors import Problem
from app.settings import settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

SESSION_S: Final = 12 * 3600
MAX_FAILED: Final = 5
LOCK_S: Final = 300
HASHER: Final = PasswordHash.recommended()
"""argon2id."""
_NOBODY: Final = HASHER.hash(secrets.token_urlsafe(16))
"""Checked when the name is unknown, so that the answer takes as long."""


def ensure_admin(engine: Engine) -> str | None:
    """Create `admin` when there is no user yet. Returns the random password, to be shown once; None otherwise."""
    given = settings().admin_password
    password = given.get_secret_value() if given else secrets.token_urlsafe(12)
    with writing(engine) as session:
        if session.scalar(select(UserRow.id).limit(1)) is not None:
            return None
        session.add(
            UserRow(
                name="admin",
                password_hash=HASHER.hash(password),
                role="admin",
                must_change=given is None,
                created_at=times.now(),
            ),
        )
        audit(session, "system", "user_created", "admin", {"role": "admin"})
    return None if given else password


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def issue_token(
    session: Session,
    user_id: int,
    *,
    name: str,
    kind: str,
    permissions: Iterable[str],
    ttl_s: int,
) -> str:
    """A new token; only its SHA-256 is stored."""
    token = f"hr_{secrets.token_urlsafe(32)}"
    now = times.now()
    session.add(
        TokenRow(
            user_id=user_id,
            digest=_digest(token),
            name=name,
            kind=kind,
            scopes=sorted(permissions),
            created_at=now,
            expires_at=now + ttl_s * times.NANOS,
        ),
    )
    return token


def log_in(engine: Engine, name: str, password: str) -> tuple[str, Principal]:
    """A session token. Problem 401 when name or password are wrong, 429 while the account is locked."""
    with writing(engine) as session:
        user = session.scalar(select(UserRow).where(UserRow.name == name))
        good = HASHER.verify(password, user.password_hash if user else _NOBODY)
        if user is not None and user.locked_until > times.now():
            raise Problem(
                429,
                "locked",
                "Too many failed log-ins",
                "Wait five minutes, then try again.",
                headers={"Retry-After": str(LOCK_S)},
            )
        if user is not None and good and not user.disabled:
            user.failed_logins = 0
            permissions = ROLES[user.role]
            token = issue_token(
                session, user.id, name="login", kind="session", permissions=permissions, ttl_s=SESSION_S
            )
            audit(session, name, "login", name, {})
            return token, Principal(user.id, user.name, user.role, permissions, 0)
        if user is not None:
            user.failed_logins += 1
            if user.failed_logins >= MAX_FAILED:
                user.failed_logins, user.locked_until = 0, times.now() + LOCK_S * times.NANOS
        audit(session, name if user else "unknown", "login_failed", name[:100], {})
    raise Problem(401, "wrong_credentials", "Name or password is wrong", headers={"WWW-Authenticate": "Bearer"})


def authenticate(engine: Engine, token: str) -> Principal:
    """Who this token belongs to. Problem 401 when it is unknown, expired or revoked."""
    with reading(engine) as session:
        row = session.execute(
            select(
                TokenRow.id,
                TokenRow.digest,
                TokenRow.scopes,
                TokenRow.expires_at,
                TokenRow.revoked_at,
                UserRow.id,
                UserRow.name,
                UserRow.role,
                UserRow.disabled,
            )
            .join(UserRow, UserRow.id == TokenRow.user_id)
            .where(TokenRow.digest == _digest(token)),
        ).one_or_none()
    if (
        row is None
        or row[4] is not None
        or row[3] < times.now()
        or row[8]
        or not hmac.compare_digest(row[1], _digest(token))
    ):
        raise Problem(
            401,
            "not_authenticated",
            "Log in again",
            "The token is unknown, expired or revoked.",
            headers={"WWW-Authenticate": "Bearer"},
        )
    return Principal(row[5], row[6], row[7], frozenset(row[2]) & ROLES[row[7]], row[0])


def revoke(engine: Engine, who: Principal, token_id: int) -> None:
    """End a token of one's own; an admin may end any. Problem 404 when there is none."""
    with writing(engine) as session:
        row = session.get(TokenRow, token_id)
        if row is None or (row.user_id != who.user_id and "administer" not in who.permissions):
            raise Problem(404, "not_found", "There is no such token")
        row.revoked_at = row.revoked_at or times.now()
        audit(session, who.name, "token_revoked", row.name, {"token": token_id})


def create_token(engine: Engine, who: Principal, *, name: str, permissions: list[str], days: int) -> tuple[str, int]:
    """An API token, and when it expires (ns). Problem 422 for a permission that its owner does not have."""
    beyond = sorted(set(permissions) - who.permissions)
    if beyond:
        raise Problem(
            422, "beyond_role", "A token cannot do more than its owner", f"You do not have: {', '.join(beyond)}."
        )
    with writing(engine) as session:
        token = issue_token(session, who.user_id, name=name, kind="api", permissions=permissions, ttl_s=days * 86400)
        audit(session, who.name, "token_created", name, {"permissions": sorted(permissions), "days": days})
    return token, times.now() + days * 86400 * times.NANOS


def tokens(engine: Engine, who: Principal) -> list[TokenRow]:
    """One's own tokens, newest first."""
    with reading(engine) as session:
        rows = list(
            session.scalars(
                select(TokenRow).where(TokenRow.user_id == who.user_id).order_by(TokenRow.id.desc()).limit(500)
            )
        )
        session.expunge_all()
        return rows


def must_change(engine: Engine, who: Principal) -> bool:
    """Whether the first password is still in force."""
    with reading(engine) as session:
        return bool(session.scalar(select(UserRow.must_change).where(UserRow.id == who.user_id)))


def change_password(engine: Engine, who: Principal, current: str, new: str) -> None:
    """Replace one's password and end every session. Problem 401 when the present one is wrong."""
    with writing(engine) as session:
        user = session.get_one(UserRow, who.user_id)
        if not HASHER.verify(current, user.password_hash):
            raise Problem(401, "wrong_credentials", "The present password is wrong")
        user.password_hash, user.must_change = HASHER.hash(new), False
        session.execute(
            update(TokenRow)
            .where(TokenRow.user_id == user.id, TokenRow.kind == "session")
            .values(revoked_at=times.now()),
        )
        audit(session, who.name, "password_changed", who.name, {})


def _chained(previous: str, fields: list[object]) -> str:
    canonical = json.dumps([previous, *fields], ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def audit(session: Session, who: str, action: str, target: str, detail: Mapping[str, object]) -> None:
    """Append to the audit log inside the caller's transaction; each digest covers the entry before it."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(4242)"))
    previous = session.scalar(select(AuditRow.digest).order_by(AuditRow.id.desc()).limit(1)) or ""
    at = times.now()
    session.add(
        AuditRow(
            at=at,
            who=who,
            action=action,
            target=target,
            detail=dict(detail),
            previous=previous,
            digest=_chained(previous, [at, who, action, target, dict(detail)]),
        ),
    )
    session.flush()


def record(engine: Engine, who: str, action: str, target: str, detail: Mapping[str, object]) -> None:
    """Append to the audit log what was done outside the database."""
    with writing(engine) as session:
        audit(session, who, action, target, detail)


def audit_page(engine: Engine, before: int | None, limit: int) -> tuple[list[AuditRow], bool]:
    """Entries newest first, and whether each digest on the page fits the entry before it."""
    query = select(AuditRow).order_by(AuditRow.id.desc()).limit(limit)
    with reading(engine) as session:
        rows = list(session.scalars(query if before is None else query.where(AuditRow.id < before)))
        session.expunge_all()
    intact = all(r.digest == _chained(r.previous, [r.at, r.who, r.action, r.target, r.detail]) for r in rows)
    linked = all(newer.previous == older.digest for newer, older in pairwise(rows))
    return rows, intact and linked
