"""Create the discarded messages."""

from alembic import op
from sqlalchemy import BigInteger, Column, DateTime, Identity, LargeBinary, Text, func

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "discarded_messages",
        Column("id", BigInteger, Identity(always=True), primary_key=True),
        Column("service", Text, nullable=False),
        Column("event_id", Text, nullable=False, comment="As `orderctl parked list` showed it."),
        Column("type", Text),
        Column("failure", Text, nullable=False, comment="Why it was parked."),
        Column("reason", Text, nullable=False, comment="Why it was discarded."),
        Column("discarded_by", Text, nullable=False),
        Column("discarded_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
        Column(
            "properties",
            LargeBinary,
            comment="With headers, as in AMQP; null: they cannot be sent.",
        ),
        Column("body", LargeBinary, nullable=False),
    )
    op.create_index("ix_discarded_messages_discarded_at", "discarded_messages", ["discarded_at"])
    op.create_index("ix_discarded_messages_service", "discarded_messages", ["service", "id"])
    op.create_index("ix_discarded_messages_event_id", "discarded_messages", ["event_id"])


def downgrade() -> None:
    op.drop_table("discarded_messages")
