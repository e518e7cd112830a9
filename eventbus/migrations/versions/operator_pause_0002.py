"""Keep the pause that ended last, in a second row. The previous release does not read this row."""

from alembic import op
from sqlalchemy import Column, DateTime

revision = "operator_pause_0002"
down_revision = "operator_pause_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the end of a pause, and admit the second row, unless the table has both."""
    for name in ("ck_operator_pause_single", "ck_operator_pause_ended_at"):
        op.drop_constraint(op.f(name), "operator_pause", if_exists=True)
    op.add_column("operator_pause", Column("ended_at", DateTime(timezone=True)), if_not_exists=True)
    op.create_check_constraint(
        op.f("ck_operator_pause_ended_at"),
        "operator_pause",
        "id = 1 AND ended_at IS NULL OR id = 2 AND ended_at IS NOT NULL",
    )


def downgrade() -> None:
    """Forget the pause that ended last."""
    op.execute("DELETE FROM operator_pause WHERE id = 2")
    op.drop_constraint(op.f("ck_operator_pause_ended_at"), "operator_pause")
    op.drop_column("operator_pause", "ended_at")
    op.create_check_constraint(op.f("ck_operator_pause_single"), "operator_pause", "id = 1")
