"""Classes of tags, and points of a past that was thinned."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """No tag has a class before a plant file gives it one: everything is kept as it was."""
    op.create_table(
        "thinned",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("tag_id", BIG, nullable=False),
        sa.Column("connection_id", BIG, nullable=False),
        sa.Column("step_ns", BIG, nullable=False),
        sa.Column("first_time", BIG, nullable=False),
        sa.Column("last_time", BIG, nullable=False),
        sa.Column("points", sa.Integer(), nullable=False),
        sa.Column("readings", BIG, nullable=False),
        sa.Column("usable", BIG, nullable=False),
        sa.Column("minimum", sa.Float(), nullable=True),
        sa.Column("maximum", sa.Float(), nullable=True),
        sa.Column("mean", sa.Float(), nullable=True),
        sa.Column("block", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_thinned")),
    )
    op.create_index("ix_thinned_tag", "thinned", ["tag_id", "last_time", "first_time"])
    op.create_table(
        "history_classes",
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("keep_days", sa.Float(), nullable=True),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("thin", sa.Text(), nullable=False),
        sa.Column("retired_at", BIG, nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_history_classes")),
    )
    op.add_column("tags", sa.Column("history", sa.String(length=100), nullable=True))
    op.create_index(op.f("ix_tags_history"), "tags", ["history"])
    op.add_column("chunks", sa.Column("unthinnable", sa.Boolean(), server_default=sa.false(), nullable=False))
