"""The gateway's durable queue between the field and the workers: append-only segments, group commit, one owner."""

from app.journal.frames import Entry, Kind, Position
from app.journal.journal import Journal, JournalState
from app.journal.store import JournalBusyError, JournalError

__all__ = ["Entry", "Journal", "JournalBusyError", "JournalError", "JournalState", "Kind", "Position"]
