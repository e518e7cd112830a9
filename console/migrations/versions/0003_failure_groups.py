"""Create the remembered failure groups, and the journal of changes to messages and groups."""

from alembic import op
from sqlalchemy import BigInteger, CheckConstraint, Column, DateTime, Identity, Text, func
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_ITEMS, _INDEX = "redrive_items", "ix_redrive_items_event_id"

# Rows are deleted by their age, but never changed.
_REFUSE = """
CREATE FUNCTION refuse_journal_update() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME
        USING ERRCODE = 'integrity_constraint_violation';
END $$
"""

_APPEND_ONLY = """
CREATE TRIGGER append_only BEFORE UPDATE ON parking_journal
FOR EACH ROW EXECUTE FUNCTION refuse_journal_update()
"""


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.drop_index(_INDEX, _ITEMS, if_exists=True, postgresql_concurrently=True)
        op.create_index(_INDEX, _ITEMS, ["event_id"], postgresql_concurrently=True)
    op.add_column(
        _ITEMS, Column("redriven_at", DateTime(timezone=True), comment="Last, by this plan.")
    )
    op.add_column(_ITEMS, Column("redriven_by", Text))
    _journal()
    _groups()


def downgrade() -> None:
    op.drop_table("failure_groups")
    op.drop_table("parking_journal")
    op.execute("DROP FUNCTION refuse_journal_update()")
    op.drop_column(_ITEMS, "redriven_by")
    op.drop_column(_ITEMS, "redriven_at")
    op.drop_index(_INDEX, _ITEMS)


def _journal() -> None:
    table = "parking_journal"
    op.create_table(
        table,
        Column("id", BigInteger, Identity(always=True), primary_key=True),
        Column("service", Text, nullable=False),
        Column("event_id", Text, comment="As `orderctl parked list` shows it."),
        Column("group_key", Text),
        Column("change", Text, nullable=False),
        Column("text", Text, comment="The reason, the note or the owner."),
        Column(
            "details",
            JSONB,
            comment="Of an edit: the difference. Of a message: the SHA-256 of its bodies.",
        ),
        Column("recorded_by", Text, nullable=False),
        Column("recorded_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
        CheckConstraint("(event_id IS NULL) <> (group_key IS NULL)", name="subject"),
    )
    op.create_index("ix_parking_journal_event_id", table, ["service", "event_id", "id"])
    op.create_index("ix_parking_journal_group_key", table, ["service", "group_key", "id"])
    op.create_index("ix_parking_journal_recorded_at", table, ["recorded_at"])
    op.execute(_REFUSE)
    op.execute(_APPEND_ONLY)


def _groups() -> None:
    op.create_table(
        "failure_groups",
        Column("service", Text, primary_key=True),
        Column(
            "key", Text, primary_key=True, comment="Hash of the type, the failure and the frame."
        ),
        Column("type", Text),
        Column("failure", Text, nullable=False),
        Column("frame", Text),
        Column("count", BigInteger, nullable=False, comment="Failures that were seen."),
        Column("first_seen", DateTime(timezone=True)),
        Column("last_seen", DateTime(timezone=True)),
        Column(
            "releases",
            ARRAY(Text),
            nullable=False,
            comment="The newest in which it was seen, in this order.",
        ),
        Column("returned_at", DateTime(timezone=True), comment="First failure after an absence."),
        Column("previous_seen", DateTime(timezone=True), comment="Last failure before it."),
        Column("previous_release", Text),
        Column("owner", Text),
        Column("note", Text, comment="The newest; the journal has the others."),
        Column("noted_by", Text),
        Column("noted_at", DateTime(timezone=True)),
        Column("muted_until", DateTime(timezone=True)),
        Column("muted_by", Text),
    )
    op.create_index("ix_failure_groups_last_seen", "failure_groups", ["service", "last_seen"])
