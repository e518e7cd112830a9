"""Create the outbox; inserts wake the relay.

A table that the service's own revisions have created is altered by them, and dropped by them.
"""

from alembic import op
from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Identity,
    SmallInteger,
    Text,
    TextClause,
    Uuid,
    func,
    inspect,
    text,
)

from eventbus.database import wakeup

revision = "outbox_0001"
down_revision = None
branch_labels = ("outbox",)
depends_on = None


def upgrade() -> None:
    """Create the table with its indexes and its trigger, unless it exists."""
    if inspect(op.get_bind()).has_table("outbox"):
        return
    _table()
    _indexes()
    op.execute(wakeup.DEFINITION.format(table="outbox"))


def downgrade() -> None:
    """Keep the table."""


def _table() -> None:
    op.create_table(
        "outbox",
        Column("id", BigInteger, Identity(always=True), primary_key=True),
        Column("event_id", Uuid, nullable=False, unique=True),
        Column("type", Text, nullable=False),
        Column("subject", Uuid, nullable=False),
        Column("event", Text, nullable=False, comment="The envelope as it goes on the wire."),
        Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
        Column("sent_at", DateTime(timezone=True), comment="When the broker confirmed it."),
        Column(
            "next_attempt_at",
            DateTime(timezone=True),
            nullable=False,
            server_default=func.now(),
            comment="Not before this; later than created_at once the broker has refused it.",
        ),
        Column(
            "unroutable_reason",
            Text,
            comment="Why the broker returned it last; null once it is sent.",
        ),
        Column(
            "attempts",
            SmallInteger,
            nullable=False,
            server_default=text("0"),
            comment="Attempts to publish it that failed.",
        ),
        Column(
            "waits_for",
            Text,
            comment="Null: its turn. An event type: the queues of that type. Else in parentheses.",
        ),
    )


def _indexes() -> None:
    columns: dict[str, list[str | TextClause]] = {
        "ix_outbox_lane": ["waits_for", "id"],
        "ix_outbox_slot": [text("(uuid_hash(subject) & 63)"), text("waits_for DESC"), "id"],
        "ix_outbox_unsent": ["next_attempt_at", "id"],
    }
    for name, unsent in columns.items():
        op.create_index(name, "outbox", unsent, postgresql_where=text("sent_at IS NULL"))
    op.create_index("ix_outbox_subject", "outbox", ["subject"])
    op.create_index(
        "ix_outbox_sent_at", "outbox", ["sent_at"], postgresql_where=text("sent_at IS NOT NULL")
    )
