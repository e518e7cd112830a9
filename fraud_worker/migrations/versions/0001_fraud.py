"""Create judgements, outbox and inbox; inserts into the outbox wake the relay."""

from alembic import op
from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Identity,
    Integer,
    SmallInteger,
    Text,
    Uuid,
    false,
    func,
    text,
)

from eventbus.database import wakeup

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    _judgements()
    _outbox()
    _inbox()
    op.execute(wakeup.DEFINITION.format(table="outbox"))


def downgrade() -> None:
    for table in ("inbox", "relay_state", "outbox", "judgements"):
        op.drop_table(table)
    op.execute("DROP FUNCTION ring_doorbell()")


def _judgements() -> None:
    op.create_table(
        "judgements",
        Column("order_id", Uuid, primary_key=True),
        Column(
            "placed_at",
            DateTime(timezone=True),
            nullable=False,
            comment="The event's own time.",
        ),
        Column("customer_email", Text, nullable=False),
        Column("customer", Text, nullable=False, comment="Whom its orders are counted for."),
        Column("client_ip", Text),
        Column("network", Text, comment="What its orders are counted for."),
        Column("currency", Text, nullable=False),
        Column("total", BigInteger, nullable=False, comment="In minor units of the currency."),
        Column("pieces", BigInteger, nullable=False),
        Column("skus", Integer, nullable=False, comment="How many different ones."),
        Column("event_id", Uuid, nullable=False, comment="Of its order.created."),
        Column("traceparent", Text, comment="Of the handler that judged it."),
        Column("suspected", Boolean, nullable=False, server_default=false()),
        _now("judged_at"),
    )
    op.create_index("ix_judgements_customer", "judgements", ["customer", "placed_at"])
    op.create_index(
        "ix_judgements_network",
        "judgements",
        ["network", "placed_at"],
        postgresql_where=text("network IS NOT NULL"),
    )
    op.create_index("ix_judgements_judged_at", "judgements", ["judged_at"])


def _outbox() -> None:
    op.create_table(
        "outbox",
        Column("id", BigInteger, Identity(always=True), primary_key=True),
        Column("event_id", Uuid, nullable=False, unique=True),
        Column("type", Text, nullable=False),
        Column("subject", Uuid, nullable=False),
        Column("event", Text, nullable=False, comment="The envelope as it goes on the wire."),
        _now("created_at"),
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


def _inbox() -> None:
    op.create_table(
        "inbox",
        Column("event_id", Uuid, primary_key=True, comment="The dedup key."),
        Column("type", Text, nullable=False),
        Column("source", Text, nullable=False),
        Column("subject", Uuid, nullable=False),
        Column("attempts", Integer, nullable=False, comment="1 when the first attempt succeeded."),
        Column("traceparent", Text),
        Column("causationid", Uuid),
        Column(
            "occurred_at",
            DateTime(timezone=True),
            nullable=False,
            comment="The event's own time.",
        ),
        _now("handled_at"),
    )
    op.create_index("ix_inbox_subject", "inbox", ["subject"])
    op.create_index("ix_inbox_handled_at", "inbox", ["handled_at"])


def _now(name: str) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=False, server_default=func.now())
