"""Keep the pause that ended last. The previous release does not read its row."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_constraint(op.f("ck_operator_pause_single"), "operator_pause")
    op.add_column("operator_pause", sa.Column("ended_at", sa.DateTime(timezone=True)))
    op.create_check_constraint(
        op.f("ck_operator_pause_ended_at"),
        "operator_pause",
        "id = 1 AND ended_at IS NULL OR id = 2 AND ended_at IS NOT NULL",
    )


def downgrade() -> None:
    op.execute("DELETE FROM operator_pause WHERE id = 2")
    op.drop_constraint(op.f("ck_operator_pause_ended_at"), "operator_pause")
    op.drop_column("operator_pause", "ended_at")
    op.create_check_constraint(op.f("ck_operator_pause_single"), "operator_pause", "id = 1")
