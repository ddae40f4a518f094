"""Foreign text on its way into a database."""

from __future__ import annotations


def storable(text: str, length: int) -> str:
    """As every database holds it: cut to length, and without the zero that PostgreSQL cannot store."""
    return text.replace("\x00", "\ufffd")[:length]
