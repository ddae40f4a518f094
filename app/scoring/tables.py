"""Rows of predictions, each with its passport, and of the context they were made in."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Boolean, Index, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Big, Json


class PredictionRow(Base):
    """One result of one pipeline version for one window revision, or the tombstone that says why there is none."""

    __tablename__ = "predictions"
    __table_args__ = (
        Index("ix_predictions_sequence", "version_id", "sequence", "end_time"),
        Index("ix_predictions_window", "version_id", "end_time", "revision"),
        Index("ix_predictions_created", "pipeline_id", "end_time"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    """UUID derived from (version, window, sequence, revision): the same on every redelivery."""
    pipeline_id: Mapped[int] = mapped_column(Big)
    version_id: Mapped[int] = mapped_column(Big)
    sequence: Mapped[int | None] = mapped_column(Big)
    """1, 2, 3… since the version was last put in force; None for late revisions."""
    revision: Mapped[int] = mapped_column(Integer, default=0)
    late: Mapped[bool] = mapped_column(Boolean, default=False)
    start_time: Mapped[int] = mapped_column(Big)
    end_time: Mapped[int] = mapped_column(Big)
    status: Mapped[int] = mapped_column(Big)
    """OPC UA StatusCode, derived from the inputs; Bad for a tombstone."""
    reason: Mapped[str] = mapped_column(String(300), default="")
    """Why there is no answer; empty when there is one."""
    outputs: Mapped[Any] = mapped_column(Json)
    """Output name → number, string or list; empty for a tombstone."""
    unit_id: Mapped[str | None] = mapped_column(String(100), index=True)
    context: Mapped[Any] = mapped_column(Json)
    asset: Mapped[str] = mapped_column(String(200), default="")
    model_digest: Mapped[str] = mapped_column(String(80))
    device_wanted: Mapped[str] = mapped_column(String(60))
    device: Mapped[str] = mapped_column(String(60))
    backend: Mapped[str] = mapped_column(String(100))
    driver: Mapped[str] = mapped_column(String(200), default="", server_default="")
    """Driver or plugin of the device, as far as its probe knows it."""
    certificate: Mapped[str] = mapped_column(String(20), default="", server_default="")
    """How model and device stood (`app.certificates.schemas.State`); empty where nothing ran, or nobody asked."""
    certificate_id: Mapped[int | None] = mapped_column(Big)
    precision: Mapped[str] = mapped_column(String(20), default="fp32")
    nodes_on_device: Mapped[int] = mapped_column(Integer, default=0)
    nodes: Mapped[int] = mapped_column(Integer, default=0)
    latency_ns: Mapped[int] = mapped_column(Big)
    """Inference only, divided over the windows run together."""
    newest_time: Mapped[int] = mapped_column(Big)
    """Newest source time inside the window."""
    received_time: Mapped[int] = mapped_column(Big)
    """When the batch that closed the window was taken."""
    created_time: Mapped[int] = mapped_column(Big)
    journal: Mapped[str] = mapped_column(String(60))
    epoch: Mapped[int] = mapped_column(Big)
    number: Mapped[int] = mapped_column(Big)
    """The journal record that closed the window."""
    input_digest: Mapped[str] = mapped_column(String(80))
    """SHA-256 of the exact window: float64 values and uint32 statuses, row-major."""


class ContextRow(Base):
    """What an asset was making, and how, from a time on: append-only."""

    __tablename__ = "contexts"
    __table_args__ = (UniqueConstraint("asset", "field", "since", name="uq_contexts_since"),)

    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    asset: Mapped[str] = mapped_column(String(200))
    field: Mapped[str] = mapped_column(String(60))
    since: Mapped[int] = mapped_column(Big)
    value: Mapped[str] = mapped_column(Text)


class StationCountRow(Base):
    """Units of one station: in = answered + refused + pending."""

    __tablename__ = "station_counts"

    asset: Mapped[str] = mapped_column(String(200), primary_key=True)
    version_id: Mapped[int] = mapped_column(Big, primary_key=True)
    answered: Mapped[int] = mapped_column(Big)
    refused: Mapped[int] = mapped_column(Big)
