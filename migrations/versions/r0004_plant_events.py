"""Events of the plant beside those of rules: where they come from, which condition they are of, what was said."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Every event that is there is one of a rule."""
    with op.batch_alter_table("events", schema=None) as batch_op:
        batch_op.add_column(sa.Column("source", sa.String(length=10), server_default="rule", nullable=False))
        batch_op.add_column(sa.Column("connection_id", BIG, nullable=True))
        batch_op.add_column(sa.Column("condition_key", sa.String(length=36), nullable=True))
        batch_op.add_column(sa.Column("plant", sa.Text(), nullable=True))
        batch_op.alter_column("pipeline_id", existing_type=BIG, nullable=True)
        batch_op.alter_column("version_id", existing_type=BIG, nullable=True)
        batch_op.alter_column("prediction_id", existing_type=sa.String(length=36), nullable=True)
        batch_op.alter_column("value", existing_type=sa.Text(), nullable=True)
        batch_op.create_index(batch_op.f("ix_events_condition_key"), ["condition_key"], unique=False)
