"""Certificates of models on devices, overrides of them, and what a prediction says of its own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Predictions that are there say nothing of a certificate: there were none."""
    op.create_table(
        "certificates",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("model_digest", sa.String(length=80), nullable=False),
        sa.Column("device", sa.String(length=60), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("backend", sa.String(length=200), nullable=False),
        sa.Column("driver", sa.String(length=200), nullable=False),
        sa.Column("precision", sa.String(length=20), nullable=False),
        sa.Column("outcome", sa.String(length=20), nullable=False),
        sa.Column("passed", sa.Boolean(), nullable=False),
        sa.Column("failures", sa.Text(), nullable=False),
        sa.Column("golden", sa.Text(), nullable=False),
        sa.Column("golden_made_by", sa.String(length=200), nullable=False),
        sa.Column("placement", sa.Text(), nullable=False),
        sa.Column("latency", sa.Text(), nullable=False),
        sa.Column("batch", sa.Integer(), nullable=False),
        sa.Column("p99_ns", BIG, nullable=True),
        sa.Column("taken_ms", sa.Integer(), nullable=False),
        sa.Column("host", sa.String(length=100), nullable=False),
        sa.Column("at", BIG, nullable=False),
        sa.Column("made_by", sa.String(length=100), nullable=False),
        sa.Column("occasion", sa.String(length=20), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_certificates")),
    )
    op.create_index("ix_certificates_key", "certificates", ["model_digest", "device", "precision", "id"])
    op.create_table(
        "overrides",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("version_id", BIG, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("who", sa.String(length=100), nullable=False),
        sa.Column("at", BIG, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_overrides")),
    )
    op.create_index(op.f("ix_overrides_version_id"), "overrides", ["version_id"])
    op.add_column("predictions", sa.Column("driver", sa.String(length=200), server_default="", nullable=False))
    op.add_column("predictions", sa.Column("certificate", sa.String(length=20), server_default="", nullable=False))
    op.add_column("predictions", sa.Column("certificate_id", BIG, nullable=True))
