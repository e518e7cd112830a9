"""Create the outbox and the state of its relay."""

from alembic import op
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Identity,
    SmallInteger,
    Text,
    Uuid,
    func,
    text,
)


def upgrade() -> None:
    """Create both tables."""
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
    )
    unsent, sent = text("sent_at IS NULL"), text("sent_at IS NOT NULL")
    op.create_index(
        "ix_outbox_unsent", "outbox", ["next_attempt_at", "id"], postgresql_where=unsent
    )
    op.create_index(
        "ix_outbox_unsent_subject", "outbox", ["subject", "id"], postgresql_where=unsent
    )
    op.create_index("ix_outbox_subject", "outbox", ["subject"])
    op.create_index("ix_outbox_sent_at", "outbox", ["sent_at"], postgresql_where=sent)
    op.create_table(
        "relay_state",
        Column("id", SmallInteger, primary_key=True, autoincrement=False),
        Column(
            "passed_at",
            DateTime(timezone=True),
            nullable=False,
            comment="Its last pass over the outbox.",
        ),
        Column(
            "broker_error",
            Text,
            comment="Why that pass could not publish; null when it could.",
        ),
        CheckConstraint("id = 1", name=op.f("ck_relay_state_single")),
    )


def downgrade() -> None:
    """Drop both tables."""
    op.drop_table("relay_state")
    op.drop_table("outbox")
