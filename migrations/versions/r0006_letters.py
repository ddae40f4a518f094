"""Attempts at a batch, windows that are kept, replays of the outbox, and counts of what was removed by its age."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Dead letters that are there have no windows: they were not kept."""
    op.create_table(
        "attempts",
        sa.Column("journal", sa.String(60), nullable=False),
        sa.Column("epoch", BIG, nullable=False),
        sa.Column("number", BIG, nullable=False),
        sa.Column("deaths", sa.Integer(), nullable=False),
        sa.Column("process", sa.String(120), nullable=False),
        sa.Column("at", BIG, nullable=False),
        sa.PrimaryKeyConstraint("journal", "epoch", "number", name=op.f("pk_attempts")),
    )
    op.create_table(
        "dead_windows",
        sa.Column("letter_id", BIG, autoincrement=False, nullable=False),
        sa.Column("version_id", BIG, nullable=False),
        sa.Column("windows", sa.Integer(), nullable=False),
        sa.Column("kept", sa.Integer(), nullable=False),
        sa.Column("first_end", BIG, nullable=False),
        sa.Column("last_end", BIG, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("mended", sa.LargeBinary(), nullable=True),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("wanted_version", BIG, nullable=True),
        sa.Column("claimed_until", BIG, nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("answered", sa.Integer(), nullable=False),
        sa.Column("said", sa.String(1000), nullable=False),
        sa.Column("changed_at", BIG, nullable=False),
        sa.Column("changed_by", sa.String(100), nullable=False),
        sa.PrimaryKeyConstraint("letter_id", name=op.f("pk_dead_windows")),
    )
    op.create_index("ix_dead_windows_state", "dead_windows", ["state", "letter_id"])
    op.create_index("ix_dead_windows_version", "dead_windows", ["version_id", "state"])
    op.create_table(
        "outbox_replays",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("subscription_id", BIG, nullable=False),
        sa.Column("since", BIG, nullable=False),
        sa.Column("until", BIG, nullable=False),
        sa.Column("next_row", BIG, nullable=False),
        sa.Column("last_row", BIG, nullable=False),
        sa.Column("keys", sa.Text(), nullable=False),
        sa.Column("rate", sa.Integer(), nullable=False),
        sa.Column("rows", BIG, nullable=False),
        sa.Column("made_due", BIG, nullable=False),
        sa.Column("stepped_at", BIG, nullable=False),
        sa.Column("asked_at", BIG, nullable=False),
        sa.Column("asked_by", sa.String(100), nullable=False),
        sa.Column("done_at", BIG, nullable=True),
        sa.Column("outcome", sa.String(20), nullable=False),
        sa.ForeignKeyConstraint(
            ["subscription_id"], ["subscriptions.id"], name=op.f("fk_outbox_replays_subscription_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox_replays")),
    )
    op.create_index("ix_outbox_replays_open", "outbox_replays", ["done_at", "subscription_id"])
    op.create_table(
        "removals",
        sa.Column("kind", sa.String(30), nullable=False),
        sa.Column("whose", sa.String(60), nullable=False),
        sa.Column("rows", BIG, nullable=False),
        sa.PrimaryKeyConstraint("kind", "whose", name=op.f("pk_removals")),
    )
