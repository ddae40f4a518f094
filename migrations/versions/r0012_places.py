"""The ledger by place in the plant."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
KEY = ["journal", "connection_id", "place_id", "fate", "reason"]


def upgrade() -> None:
    """What was counted before belongs to no place. SQLite makes a table anew when its key changes."""
    op.create_table(
        "places",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("connection_id", BIG, nullable=False),
        sa.Column("path", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_places")),
        sa.UniqueConstraint("connection_id", "path", name="uq_places_path"),
    )
    op.create_table(
        "held_at_places",
        sa.Column("journal", sa.String(length=60), nullable=False),
        sa.Column("place_id", BIG, autoincrement=False, nullable=False),
        sa.Column("held", BIG, nullable=False),
        sa.PrimaryKeyConstraint("journal", "place_id", name=op.f("pk_held_at_places")),
    )
    with op.batch_alter_table("ledger") as ledger:
        ledger.add_column(sa.Column("place_id", BIG, autoincrement=False, nullable=False, server_default="0"))
        ledger.drop_constraint(op.f("pk_ledger"), type_="primary")
        ledger.create_primary_key(op.f("pk_ledger"), KEY)
