"""Rows of certificates and of overrides: only ever added to."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Boolean, Index, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Big, Json


class CertificateRow(Base):
    """One activation check of one model on one device. The newest of its key and identity counts."""

    __tablename__ = "certificates"
    __table_args__ = (Index("ix_certificates_key", "model_digest", "device", "precision", "id"),)

    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    model_digest: Mapped[str] = mapped_column(String(80))
    device: Mapped[str] = mapped_column(String(60))
    """`ascend:0`. What was asked for, where it is absent."""
    name: Mapped[str] = mapped_column(String(200), default="")
    """The chip as it calls itself."""
    backend: Mapped[str] = mapped_column(String(200), default="")
    """Runtime and its version: with `driver`, the identity that has to be the present one."""
    driver: Mapped[str] = mapped_column(String(200), default="")
    precision: Mapped[str] = mapped_column(String(20))
    outcome: Mapped[str] = mapped_column(String(20))
    """`passed`, `failed`, `refused` (the device does not take the model), `absent` (there was no such device)."""
    passed: Mapped[bool] = mapped_column(Boolean)
    failures: Mapped[Any] = mapped_column(Json)
    """Each in English and Chinese."""
    golden: Mapped[Any] = mapped_column(Json)
    """Per output: name, passed, finite, max_abs, share of the tolerance, rtol, atol."""
    golden_made_by: Mapped[str] = mapped_column(String(200), default="")
    placement: Mapped[Any] = mapped_column(Json)
    """nodes, on_device, fallen_back (by name; what is unknown is among them), reason."""
    latency: Mapped[Any] = mapped_column(Json)
    """Per batch size: batch, runs, p50_ns, p99_ns."""
    batch: Mapped[int] = mapped_column(Integer)
    """The batch size that was wanted."""
    p99_ns: Mapped[int | None] = mapped_column(Big)
    """At that batch size, or at the only one the model takes."""
    taken_ms: Mapped[int] = mapped_column(Integer)
    host: Mapped[str] = mapped_column(String(100))
    at: Mapped[int] = mapped_column(Big)
    made_by: Mapped[str] = mapped_column(String(100))
    """Who asked: a person, or `system`."""
    occasion: Mapped[str] = mapped_column(String(20))
    """`apply`, `certify`, `unchecked` (in force before there were certificates, or new here), `return` (was lost),
    `serve` (for callers of `/v2`), `compile` (a worker had no artefact yet)."""


class OverrideRow(Base):
    """A pipeline version that was put in force though a check did not pass."""

    __tablename__ = "overrides"

    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    version_id: Mapped[int] = mapped_column(Big, index=True)
    reason: Mapped[str] = mapped_column(Text)
    who: Mapped[str] = mapped_column(String(100))
    at: Mapped[int] = mapped_column(Big)
