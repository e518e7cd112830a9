"""Allow emails to the operator, which wait for no other email of their order.

A nullable column is wider, so the previous release continues to write a sequence.
"""

from alembic import op
from sqlalchemy import Integer, Text

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_TABLE = "notifications"
_SEQUENCE = "The event's; an order's emails are sent in this order."


def upgrade() -> None:
    op.alter_column(
        _TABLE,
        "sequence",
        existing_type=Integer(),
        nullable=True,
        existing_comment=_SEQUENCE,
        comment=f"{_SEQUENCE} Null waits for none.",
    )
    op.alter_column(_TABLE, "recipient", existing_type=Text(), comment="An address, or `operator`.")


def downgrade() -> None:
    op.execute("DELETE FROM notifications WHERE sequence IS NULL")
    op.alter_column(
        _TABLE,
        "sequence",
        existing_type=Integer(),
        nullable=False,
        existing_comment=f"{_SEQUENCE} Null waits for none.",
        comment=_SEQUENCE,
    )
    op.alter_column(_TABLE, "recipient", existing_type=Text(), comment=None)
