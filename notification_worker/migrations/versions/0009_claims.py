"""Claim emails by leases, and make an email due immediately until its first attempt.

With `now()` as the first due time, new emails waited after a failover to a server whose clock was
behind. The previous release reads the new default as a time in the past. It does not use leases:
stop its mailers before those of the new release start, or both may send the same email.
"""

from alembic import op
from sqlalchemy import Column, DateTime, Integer, TextClause, Uuid, text

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_TABLE = "notifications"
_FAILED = "ix_notifications_failed"
_DUE = "Not before this."
_DUE_AT_ONCE = "Not before this; epoch: immediately, by any clock."
_ATTEMPTS = "Attempts after which the email may have been sent."


def upgrade() -> None:
    op.add_column(
        _TABLE, Column("unsure", Integer, nullable=False, server_default="0", comment=_ATTEMPTS)
    )
    op.add_column(_TABLE, Column("claimed_by", Uuid, comment="The mailer that is sending it."))
    op.add_column(
        _TABLE,
        Column(
            "claimed_until",
            DateTime(timezone=True),
            comment="When another mailer may take it over; renewed while the first one lives.",
        ),
    )
    _due(text("'epoch'"), _DUE_AT_ONCE, before=_DUE)
    # The parameter applies to new pages only; a claim on an old page also writes to the indexes.
    op.execute(f"ALTER TABLE {_TABLE} SET (fillfactor = 85)")
    with op.get_context().autocommit_block():
        # An interrupted build leaves an invalid index.
        op.drop_index(_FAILED, _TABLE, if_exists=True, postgresql_concurrently=True)
        op.create_index(
            _FAILED,
            _TABLE,
            ["id"],
            postgresql_where=text("status = 'FAILED'"),
            postgresql_concurrently=True,
        )


def downgrade() -> None:
    op.drop_index(_FAILED, _TABLE)
    op.execute(f"ALTER TABLE {_TABLE} RESET (fillfactor)")
    _due(text("now()"), _DUE, before=_DUE_AT_ONCE)
    for column in ("claimed_until", "claimed_by", "unsure"):
        op.drop_column(_TABLE, column)


def _due(default: TextClause, comment: str, *, before: str) -> None:
    op.alter_column(
        _TABLE,
        "next_attempt_at",
        existing_type=DateTime(timezone=True),
        existing_nullable=False,
        server_default=default,
        existing_comment=before,
        comment=comment,
    )
