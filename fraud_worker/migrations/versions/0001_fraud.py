"""Create judgements, outbox and inbox; inserts into the outbox wake the relay."""

from alembic import op
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Integer,
    Text,
    Uuid,
    false,
    func,
    text,
)

from eventbus.database import wakeup
from eventbus.migrations.early_outbox import creation
from eventbus.migrations.versions import inbox_0001 as inbox

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    _judgements()
    creation.upgrade()
    inbox.upgrade()
    op.execute(wakeup.DEFINITION.format(table="outbox"))


def downgrade() -> None:
    inbox.downgrade()
    creation.downgrade()
    op.drop_table("judgements")
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


def _now(name: str) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=False, server_default=func.now())
