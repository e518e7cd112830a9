"""The index of large parking lots."""

from alembic import op
from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Double,
    Identity,
    Integer,
    LargeBinary,
    Text,
    UniqueConstraint,
    Uuid,
)
from sqlalchemy.dialects.postgresql import JSONB

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_LOTS, _MESSAGES = "indexed_lots", "indexed_messages"


def upgrade() -> None:
    op.create_table(
        _LOTS,
        Column("service", Text, primary_key=True),
        Column(
            "messages", Integer, nullable=False, comment="The number of messages that were read."
        ),
        Column(
            "read_at",
            DateTime(timezone=True),
            nullable=False,
            comment="The start of the reading.",
        ),
        Column("seconds", Double, nullable=False, comment="The duration of the reading."),
        Column(
            "unread",
            Text,
            nullable=False,
            comment="Messages that another reader held, in words.",
        ),
        Column("groups", JSONB, nullable=False, comment="The groups of the messages."),
        prefixes=["UNLOGGED"],
    )
    op.create_table(
        _MESSAGES,
        Column(
            "id",
            BigInteger,
            Identity(always=True),
            primary_key=True,
            comment="Ids are in the order of the queue.",
        ),
        Column("service", Text, nullable=False),
        Column(
            "fingerprint", Uuid, nullable=False, comment="Hash of the description and of the body."
        ),
        Column("event_id", Text, nullable=False, comment="As `orderctl parked list` shows it."),
        Column("order_id", Text),
        Column("digest", Text, nullable=False, comment="SHA-256 of the body."),
        Column("group_key", Text, nullable=False),
        Column("parked", JSONB, nullable=False, comment="The description."),
        Column("headers", JSONB, nullable=False, comment="The headers as text."),
        Column("size", Integer, nullable=False, comment="Bytes of the body."),
        Column("body", LargeBinary, comment="Null if it is not kept."),
        UniqueConstraint("service", "fingerprint"),
        prefixes=["UNLOGGED"],
    )
    # Nothing else uses the new table, so its indexes need not be created concurrently.
    for name in ("", "event_id", "order_id", "group_key"):
        columns = list(filter(None, ["service", name, "id"]))
        op.create_index(f"ix_{_MESSAGES}_{name or 'service'}", _MESSAGES, columns)


def downgrade() -> None:
    op.drop_table(_MESSAGES)
    op.drop_table(_LOTS)
