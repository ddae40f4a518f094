"""Rows of the model registry: which packages were imported, by digest."""

from __future__ import annotations

from typing import Any

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Big, Json


class ModelRow(Base):
    """One imported model package; the files lie in the content-addressed store under this digest."""

    __tablename__ = "models"

    digest: Mapped[str] = mapped_column(String(80), primary_key=True)
    sm3: Mapped[str] = mapped_column(String(80))
    name: Mapped[str] = mapped_column(String(100), index=True)
    version: Mapped[str] = mapped_column(String(60))
    contract: Mapped[Any] = mapped_column(Json)
    """inputs, outputs, opset, ir_version, nodes, manifest."""
    imported_at: Mapped[int] = mapped_column(Big)
