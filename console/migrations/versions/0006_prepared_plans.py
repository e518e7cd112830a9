"""Store the preparation of a plan, and the numbers of its messages."""

from typing import Any

from alembic import op
from sqlalchemy import Column, Integer
from sqlalchemy.dialects.postgresql import JSONB

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_PLANS, _ITEMS, _INDEX = "redrive_plans", "redrive_items", "ix_redrive_items_rank"

_BEFORE = ("incomplete", "ready", "paused", "aborted", "done")

# A run counts the messages of its plan again, even if the previous release has created the plan.
_COUNT = """
UPDATE redrive_plans SET {column}s = counted.numbers
FROM (
    SELECT plan_id, jsonb_object_agg({column}, number) AS numbers
    FROM (
        SELECT plan_id, {column}, count(*) AS number FROM redrive_items GROUP BY plan_id, {column}
    ) AS each
    GROUP BY plan_id
) AS counted
WHERE counted.plan_id = redrive_plans.id
"""


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.drop_index(_INDEX, _ITEMS, if_exists=True, postgresql_concurrently=True)
        op.create_index(
            _INDEX, _ITEMS, ["plan_id", "rank", "position"], postgresql_concurrently=True
        )
    op.add_column(
        _PLANS, Column("depth", Integer, comment="Messages to examine for its preparation.")
    )
    op.add_column(_PLANS, _filled("examined", Integer, "0", "How many of them were."))
    op.add_column(
        _PLANS, _filled("states", JSONB, "{}", "The numbers of its messages by their state.")
    )
    op.add_column(_PLANS, _filled("effects", JSONB, "{}", "The same by the expected effect."))
    for column in ("state", "effect"):
        op.execute(_COUNT.format(column=column))
    _allow("incomplete", "failed", *_BEFORE[1:])


def downgrade() -> None:
    op.execute("UPDATE redrive_plans SET state = 'aborted' WHERE state = 'failed'")
    _allow(*_BEFORE)
    for column in ("effects", "states", "examined", "depth"):
        op.drop_column(_PLANS, column)
    op.drop_index(_INDEX, _ITEMS)


def _filled(name: str, type_: type, default: str, comment: str) -> Column[Any]:
    return Column(name, type_, nullable=False, server_default=default, comment=comment)


def _allow(*states: str) -> None:
    name = op.f("ck_redrive_plans_state")
    op.drop_constraint(name, _PLANS)
    listed = ", ".join(f"'{state}'" for state in states)
    op.create_check_constraint(name, _PLANS, f"state IN ({listed})")
