"""Rows of what leaves north: subscriptions, and the outbox written with the prediction it carries."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Boolean, ForeignKey, Index, Integer, LargeBinary, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Big, Json


class SubscriptionRow(Base):
    """A northbound consumer's standing order."""

    __tablename__ = "subscriptions"

    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    connector: Mapped[str] = mapped_column(String(40))
    """Whose `sink` publishes it: `mqtt`, `opcua`."""
    options: Mapped[Any] = mapped_column(Json)
    topic: Mapped[str] = mapped_column(String(300), default="")
    """Prefix of every topic."""
    revision: Mapped[int] = mapped_column(Integer, default=1)
    enabled: Mapped[bool] = mapped_column(Boolean, default=True)


class OutboxRow(Base):
    """One publication for one subscription; the row goes out until the peer has taken it."""

    __tablename__ = "outbox"
    __table_args__ = (Index("ix_outbox_due", "subscription_id", "sent_at", "due_at"),)

    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    subscription_id: Mapped[int] = mapped_column(ForeignKey("subscriptions.id"))
    publication_id: Mapped[str] = mapped_column(String(80))
    """Prediction or event id (with its state): the same on a repeat."""
    key: Mapped[str] = mapped_column(String(200))
    """Order is kept per key: the pipeline, or the rule."""
    topic: Mapped[str] = mapped_column(String(500))
    content_type: Mapped[str] = mapped_column(String(100))
    body: Mapped[bytes] = mapped_column(LargeBinary)
    nodes: Mapped[Any] = mapped_column(Json)
    """NodeValue fields in a list, for OPC UA; empty for MQTT."""
    retain: Mapped[bool] = mapped_column(Boolean, default=False)
    source_time: Mapped[int] = mapped_column(Big)
    """Newest source time behind it: latency is sent_at minus this."""
    due_at: Mapped[int] = mapped_column(Big)
    sent_at: Mapped[int | None] = mapped_column(Big)
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    error: Mapped[str] = mapped_column(Text, default="")


class OutboxReplayRow(Base):
    """An order to publish again what a peer has taken before, from one row of the outbox to another."""

    __tablename__ = "outbox_replays"
    __table_args__ = (Index("ix_outbox_replays_open", "done_at", "subscription_id"),)

    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    subscription_id: Mapped[int] = mapped_column(ForeignKey("subscriptions.id"))
    since: Mapped[int] = mapped_column(Big)
    until: Mapped[int] = mapped_column(Big)
    """ns: what the peer took from here to before there."""
    next_row: Mapped[int] = mapped_column(Big)
    last_row: Mapped[int] = mapped_column(Big)
    """Rows of the outbox that are still to be made due, first and last."""
    keys: Mapped[Any] = mapped_column(Json)
    """Order key → its last row: what is new under it waits until that is due."""
    rate: Mapped[int] = mapped_column(Integer)
    """Rows a second, at most."""
    rows: Mapped[int] = mapped_column(Big)
    """As it was found when it was asked for."""
    made_due: Mapped[int] = mapped_column(Big, default=0)
    stepped_at: Mapped[int] = mapped_column(Big, default=0)
    """ns: when rows were last made due."""
    asked_at: Mapped[int] = mapped_column(Big)
    asked_by: Mapped[str] = mapped_column(String(100))
    done_at: Mapped[int | None] = mapped_column(Big)
    outcome: Mapped[str] = mapped_column(String(20), default="")
    """`done`, or `stopped` by somebody."""
