"""Rows of applied plant files: every version is kept."""

from __future__ import annotations

from sqlalchemy import Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Big


class PlantRevisionRow(Base):
    """One applied plant.yaml; the gateway follows the largest number."""

    __tablename__ = "plant_revisions"

    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    document: Mapped[str] = mapped_column(Text)
    """The file as applied, secrets replaced by their sealed form."""
    file: Mapped[str] = mapped_column(Text, default="plant.yaml")
    """Where the file lay: paths in it are relative to that."""
    digest: Mapped[str] = mapped_column(String(80))
    path: Mapped[str] = mapped_column(String(400), default="")
    """Enterprise, site, area and line, `/` between levels: begins every topic."""
    applied_at: Mapped[int] = mapped_column(Big)
    applied_by: Mapped[str] = mapped_column(String(100))
