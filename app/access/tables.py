"""Rows of who may do what: users, sessions and API tokens (hashed), and the hash-chained audit log."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Boolean, ForeignKey, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Big, Json


class UserRow(Base):
    """A person or system that may log in."""

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    password_hash: Mapped[str] = mapped_column(String(300))
    """argon2id."""
    role: Mapped[str] = mapped_column(String(20))
    """viewer, operator, engineer, admin, auditor."""
    must_change: Mapped[bool] = mapped_column(Boolean, default=False)
    disabled: Mapped[bool] = mapped_column(Boolean, default=False)
    failed_logins: Mapped[int] = mapped_column(Big, default=0)
    locked_until: Mapped[int] = mapped_column(Big, default=0)
    created_at: Mapped[int] = mapped_column(Big)


class TokenRow(Base):
    """A session or API token; only its SHA-256 is stored."""

    __tablename__ = "tokens"

    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    name: Mapped[str] = mapped_column(String(100))
    kind: Mapped[str] = mapped_column(String(10))
    """session or api."""
    scopes: Mapped[Any] = mapped_column(Json)
    created_at: Mapped[int] = mapped_column(Big)
    expires_at: Mapped[int] = mapped_column(Big)
    revoked_at: Mapped[int | None] = mapped_column(Big)


class AuditRow(Base):
    """One thing somebody did; each row's digest covers the row before it."""

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    at: Mapped[int] = mapped_column(Big)
    who: Mapped[str] = mapped_column(String(100))
    action: Mapped[str] = mapped_column(String(60))
    target: Mapped[str] = mapped_column(String(300))
    detail: Mapped[Any] = mapped_column(Json)
    previous: Mapped[str] = mapped_column(Text)
    digest: Mapped[str] = mapped_column(Text)
