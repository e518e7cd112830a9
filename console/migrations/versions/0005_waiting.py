"""Allow a state of messages that wait behind earlier events of their orders."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_BEFORE = ("planned", "sent", "handled", "parked again", "gone", "skipped")


def upgrade() -> None:
    _allow(*_BEFORE, "waiting")


def downgrade() -> None:
    op.execute("UPDATE redrive_items SET state = 'planned' WHERE state = 'waiting'")
    _allow(*_BEFORE)


def _allow(*states: str) -> None:
    name = op.f("ck_redrive_items_state")
    op.drop_constraint(name, "redrive_items")
    listed = ", ".join(f"'{state}'" for state in states)
    op.create_check_constraint(name, "redrive_items", f"state IN ({listed})")
