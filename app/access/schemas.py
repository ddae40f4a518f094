"""What access speaks: permissions by role, principals, and the bodies of its requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, SecretStr

ROLES: Final[dict[str, frozenset[str]]] = {
    "viewer": frozenset({"read"}),
    "operator": frozenset({"read", "acknowledge", "infer"}),
    "engineer": frozenset({"read", "acknowledge", "infer", "configure"}),
    "admin": frozenset({"read", "acknowledge", "infer", "configure", "administer"}),
    "auditor": frozenset({"read", "audit"}),
}
"""Permissions of each role. The auditor changes nothing, the admin does not read the audit log: duties are separate."""

NEEDS: Final[dict[str, str]] = {
    "viewer": "read",
    "operator": "acknowledge",
    "engineer": "configure",
    "admin": "administer",
    "auditor": "audit",
}
"""The permission that makes the difference for each role."""

MIN_PASSWORD: Final = 12


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a request comes from."""

    user_id: int
    name: str
    role: str
    permissions: frozenset[str]
    token_id: int


class Login(BaseModel):
    """A name and a password."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=100)
    password: SecretStr = Field(min_length=1, max_length=500)


class NewPassword(BaseModel):
    """The present password and the one to replace it."""

    model_config = ConfigDict(extra="forbid")

    current: SecretStr = Field(min_length=1, max_length=500)
    new: SecretStr = Field(min_length=MIN_PASSWORD, max_length=500)


class NewToken(BaseModel):
    """An API token for a machine: what it may do and for how long."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=100)
    permissions: list[str] = Field(default=["read"], min_length=1, max_length=8)
    days: int = Field(default=365, ge=1, le=3650)


class Issued(BaseModel):
    """A token, shown once."""

    token: str
    expires_at: str
    name: str
    permissions: list[str]


class TokenView(BaseModel):
    """A token without its secret."""

    id: int
    name: str
    kind: str
    permissions: list[str]
    created_at: str
    expires_at: str
    revoked_at: str | None


class Me(BaseModel):
    """Who is asking."""

    name: str
    role: str
    permissions: list[str]
    must_change_password: bool


class AuditEntry(BaseModel):
    """One entry of the audit log, with the digest that chains it to the one before."""

    id: int
    at: str
    who: str
    action: str
    target: str
    detail: dict[str, object]
    digest: str


class AuditPage(BaseModel):
    """Entries, newest first, and whether the chain is unbroken."""

    items: list[AuditEntry]
    next: str | None
    intact: bool
