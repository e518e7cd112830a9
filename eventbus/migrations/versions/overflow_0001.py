"""Create the record of the events that the service's queue has dropped."""

from alembic import op
from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Integer,
    SmallInteger,
    false,
)

revision = "overflow_0001"
down_revision = None
branch_labels = ("overflow",)
depends_on = None


def upgrade() -> None:
    """Create the table, unless it exists."""
    op.create_table(
        "overflow",
        Column("id", SmallInteger, primary_key=True, autoincrement=False),
        Column("emptied_offset", BigInteger, comment="The stream's end when the queue was empty."),
        Column("emptied_at", DateTime(timezone=True), comment="When that was."),
        Column(
            "settled_offset",
            BigInteger,
            comment="Every event below it was handled, waits in a retry tier or is parked.",
        ),
        Column("start_offset", BigInteger, comment="Where the last reading of the stream starts."),
        Column("requested_at", DateTime(timezone=True), comment="Null when nothing is missing."),
        Column("dropped_at", DateTime(timezone=True), comment="When the last drop was reported."),
        Column("position", BigInteger, comment="The next message to read; null before the first."),
        Column("end_offset", BigInteger, comment="Where reading ends."),
        Column(
            "again", Boolean, nullable=False, server_default=false(), comment="Once more after it."
        ),
        Column("progressed_at", DateTime(timezone=True), comment="When reading last went on."),
        Column("finished_at", DateTime(timezone=True)),
        Column("copied", BigInteger, nullable=False, server_default="0", comment="Events, ever."),
        Column(
            "gaps",
            Integer,
            nullable=False,
            server_default="0",
            comment="How often events had left the stream before they were read.",
        ),
        CheckConstraint("id = 1", name=op.f("ck_overflow_single")),
        if_not_exists=True,
    )


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("overflow", if_exists=True)
