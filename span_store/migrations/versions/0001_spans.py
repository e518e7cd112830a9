"""Create the table of spans."""

from alembic import op
from sqlalchemy import BigInteger, Column, DateTime, Text, func, text
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "spans",
        Column("trace_id", Text, primary_key=True),
        Column("span_id", Text, primary_key=True),
        Column("parent_id", Text, comment="Null for the first of its trace."),
        Column("service", Text, nullable=False),
        Column("name", Text, nullable=False),
        Column("kind", Text, nullable=False),
        Column("started_at", DateTime(timezone=True), nullable=False),
        Column("microseconds", BigInteger, nullable=False, comment="How long it took."),
        Column("status", Text, nullable=False, comment="unset, ok or error."),
        Column("reason", Text, comment="Why it is an error."),
        Column("order_id", Text),
        Column("attributes", JSONB, nullable=False),
        Column("received_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    )
    op.create_index(
        "ix_spans_order_id",
        "spans",
        ["order_id"],
        postgresql_where=text("order_id IS NOT NULL"),
    )
    op.create_index("ix_spans_received_at", "spans", ["received_at"])


def downgrade() -> None:
    op.drop_table("spans")
