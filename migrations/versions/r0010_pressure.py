"""What is dropped first: the priority of a connection."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Connections that are there are as important as each other."""
    op.add_column("connections", sa.Column("priority", sa.String(length=10), nullable=False, server_default="normal"))
