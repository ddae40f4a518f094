"""The history is compacted: chunks of one tag each, axes they share, and notes of which batches went in."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Batches that are there are compacted as those that come."""
    op.create_table(
        "axes",
        sa.Column("digest", sa.String(length=40), nullable=False),
        sa.Column("block", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_axes")),
    )
    op.create_table(
        "chunks",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("tag_id", BIG, nullable=False),
        sa.Column("connection_id", BIG, nullable=False),
        sa.Column("first_time", BIG, nullable=False),
        sa.Column("last_time", BIG, nullable=False),
        sa.Column("received_time", BIG, nullable=False),
        sa.Column("readings", sa.Integer(), nullable=False),
        sa.Column("level", sa.Integer(), nullable=False),
        sa.Column("usable", sa.Integer(), nullable=False),
        sa.Column("minimum", sa.Float(), nullable=True),
        sa.Column("maximum", sa.Float(), nullable=True),
        sa.Column("mean", sa.Float(), nullable=True),
        sa.Column("axis", sa.String(length=40), nullable=True),
        sa.Column("block", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["axis"], ["axes.digest"], name=op.f("fk_chunks_axis")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_chunks")),
    )
    op.create_index("ix_chunks_tag", "chunks", ["tag_id", "last_time", "first_time"])
    op.create_index("ix_chunks_connection", "chunks", ["connection_id", "last_time", "first_time"])
    op.create_index("ix_chunks_level", "chunks", ["level", "tag_id", "connection_id"])
    op.create_index(op.f("ix_chunks_axis"), "chunks", ["axis"])
    op.create_table(
        "compactions",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("journal", sa.String(length=60), nullable=False),
        sa.Column("epoch", BIG, nullable=False),
        sa.Column("connection_id", BIG, nullable=False),
        sa.Column("first", BIG, nullable=False),
        sa.Column("last", BIG, nullable=False),
        sa.Column("readings", BIG, nullable=False),
        sa.Column("received_time", BIG, nullable=False),
        sa.Column("numbers", sa.LargeBinary(), nullable=False),
        sa.Column("counts", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_compactions")),
    )
    op.create_index("ix_compactions_numbers", "compactions", ["journal", "epoch", "last"])
    op.create_index(op.f("ix_compactions_connection_id"), "compactions", ["connection_id"])
