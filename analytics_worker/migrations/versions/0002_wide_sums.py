"""Remove the limit of sums: ten orders of the largest total in one minute exceeded a bigint.

Both tables are rewritten while the reader waits: a second for every few million rows. The previous
release continues with the new columns.
"""

from decimal import Decimal

from alembic import op
from sqlalchemy import BigInteger, Numeric

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_SUMS = {
    "minutes": ("placed_total", "revenue", "decision_microseconds"),
    "sku_minutes": ("pieces", "revenue"),
}


def upgrade() -> None:
    _change(to=Numeric(), of=BigInteger())


def downgrade() -> None:
    _change(to=BigInteger(), of=Numeric())


def _change(*, to: BigInteger | Numeric[Decimal], of: BigInteger | Numeric[Decimal]) -> None:
    for table, columns in _SUMS.items():
        # Both columns are changed in one statement, so the table is rewritten once.
        with op.batch_alter_table(table) as batch:
            for column in columns:
                batch.alter_column(column, type_=to, existing_type=of, existing_nullable=False)
