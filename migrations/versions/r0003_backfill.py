"""Backfill: how gaps were filled, which batches filled them, and the windows that are computed again for it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Gaps that were found before are open: they are filled, or it is said why not."""
    op.add_column("gaps", sa.Column("state", sa.String(10), nullable=False, server_default="open"))
    op.add_column("gaps", sa.Column("readings", BIG, nullable=False, server_default="0"))
    op.add_column("gaps", sa.Column("filled_until", BIG, nullable=False, server_default="0"))
    op.add_column("gaps", sa.Column("reason", sa.String(500), nullable=False, server_default=""))
    op.add_column("gaps", sa.Column("lacking", sa.Text(), nullable=False, server_default="[]"))
    op.add_column("gaps", sa.Column("ended_at", BIG, nullable=True))
    op.add_column("batches", sa.Column("gap_id", BIG, nullable=True))
    op.create_table(
        "recomputes",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("gap_id", BIG, nullable=False),
        sa.Column("version_id", BIG, nullable=False),
        sa.Column("done_until", BIG, nullable=False),
        sa.Column("until", BIG, nullable=False),
        sa.Column("windows", sa.Integer(), nullable=False),
        sa.Column("claimed_until", BIG, nullable=False),
        sa.Column("done_at", BIG, nullable=True),
        sa.Column("reason", sa.String(300), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_recomputes")),
        sa.UniqueConstraint("gap_id", "version_id", name="uq_recomputes_version"),
    )
