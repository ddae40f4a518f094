"""Leases: who of several gateways owns a connection or a subscription, and where the numbers go on after a takeover."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Both are empty as long as there is one gateway."""
    op.create_table(
        "leases",
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("holder", sa.String(length=60), nullable=False),
        sa.Column("gateway", sa.String(length=30), nullable=False),
        sa.Column("term", BIG, nullable=False),
        sa.Column("expires_at", BIG, nullable=False),
        sa.Column("since", BIG, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
    )
    op.create_table(
        "takeovers",
        sa.Column("version_id", BIG, autoincrement=False, nullable=False),
        sa.Column("connection_id", BIG, nullable=False),
        sa.Column("term", BIG, nullable=False),
        sa.Column("first", BIG, nullable=False),
        sa.Column("after", BIG, nullable=False),
        sa.Column("at", BIG, nullable=False),
        sa.PrimaryKeyConstraint("version_id", name=op.f("pk_takeovers")),
    )
