"""Gaps say why they are there: a connection was lost, or readings were dropped by the journal's policy."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Every gap that is there comes from a connection that was lost."""
    op.add_column("gaps", sa.Column("cause", sa.String(20), nullable=False, server_default=""))
