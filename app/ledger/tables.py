"""Rows of the ledger: counters that commit with the data they count."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Integer, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Big, Json


class PlaceRow(Base):
    """A place in the plant to which tags of a connection belong: made once and kept: the ledger names it."""

    __tablename__ = "places"
    __table_args__ = (UniqueConstraint("connection_id", "path", name="uq_places_path"),)

    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    connection_id: Mapped[int] = mapped_column(Big)
    path: Mapped[str] = mapped_column(String(200))
    """The beginning of the tags' own, `/` between levels."""


class LedgerRow(Base):
    """Readings of one connection and place that met one fate at one hop. Worker transactions add to it.

    What belongs to no place, or to none that is known, has a row of its own: all rows of a connection are its sum.
    """

    __tablename__ = "ledger"

    journal: Mapped[str] = mapped_column(String(60), primary_key=True)
    connection_id: Mapped[int] = mapped_column(Big, primary_key=True)
    place_id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=False, default=0)
    """`places.id`; 0: none."""
    fate: Mapped[str] = mapped_column(String(30), primary_key=True)
    """`stored`, `refused`, `lost_by_peer`, `dropped` (by the chosen policy)."""
    reason: Mapped[str] = mapped_column(String(60), primary_key=True)
    """Empty for `stored`."""
    readings: Mapped[int] = mapped_column(Big)
    batches: Mapped[int] = mapped_column(Big)


class GapRow(Base):
    """From when to when changes of a connection may be missing, because it could not take up where it was lost."""

    __tablename__ = "gaps"

    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    connection_id: Mapped[int] = mapped_column(Big, index=True)
    since: Mapped[int] = mapped_column(Big)
    """ns: the last sign of life before."""
    until: Mapped[int] = mapped_column(Big)
    """ns: the first receipt after."""
    state: Mapped[str] = mapped_column(String(10), default="open")
    """`open`: to be filled; `filled`, `partly`, `none`: how that ended."""
    readings: Mapped[int] = mapped_column(Big, default=0)
    """That were read from the peer's history and were not there yet."""
    filled_until: Mapped[int] = mapped_column(Big, default=0)
    """ns: from `since` up to here the history was read; 0: nothing yet."""
    reason: Mapped[str] = mapped_column(String(500), default="")
    """Why it is not filled whole."""
    lacking: Mapped[Any] = mapped_column(Json, default=list)
    """Ids of tags of which the peer had no history."""
    ended_at: Mapped[int | None] = mapped_column(Big)
    """ns: when the filling ended."""
    cause: Mapped[str] = mapped_column(String(20), default="")
    """Why it is there: empty, the connection was lost; `journal_full`, `journal_age`, readings were dropped;
    `journal_damaged`, `journal_missing`, the disk lost them."""


class HeldRow(Base):
    """What a scan of a journal found of one place that is not applied. The connection's own is in its state."""

    __tablename__ = "held_at_places"

    journal: Mapped[str] = mapped_column(String(60), primary_key=True)
    place_id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=False)
    held: Mapped[int] = mapped_column(Big)


class JournalStateRow(Base):
    """What a gateway found in its journal by scanning it, per connection, at one head position."""

    __tablename__ = "journal_states"

    journal: Mapped[str] = mapped_column(String(60), primary_key=True)
    connection_id: Mapped[int] = mapped_column(Big, primary_key=True)
    epoch: Mapped[int] = mapped_column(Big)
    head: Mapped[int] = mapped_column(Big)
    """Number of the newest record the scan saw."""
    watermark: Mapped[int] = mapped_column(Big)
    """Everything at or below was applied when the scan was made."""
    read: Mapped[int] = mapped_column(Big)
    """Readings taken from the field up to `head`, refused ones included: the journal's own running count."""
    held: Mapped[int] = mapped_column(Big)
    """Readings (and refusals) in records not applied, counted one by one."""
    stored: Mapped[int] = mapped_column(Big)
    """The ledger's stored readings when the scan was made, read in the same transaction as the applied ids."""
    refused: Mapped[int] = mapped_column(Big)
    dropped: Mapped[int] = mapped_column(Big)
    lost_by_peer: Mapped[int] = mapped_column(Big)
    segments: Mapped[int] = mapped_column(Integer)
    bytes: Mapped[int] = mapped_column(Big)
    at: Mapped[int] = mapped_column(Big)
