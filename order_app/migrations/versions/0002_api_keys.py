"""Add API keys; an idempotency key belongs to the API key of its request."""

from alembic import op
from sqlalchemy import ARRAY, CheckConstraint, Column, Date, DateTime, Text, func

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "api_keys",
        Column(
            "prefix", Text, primary_key=True, comment="The key's public part: its name in logs."
        ),
        Column("name", Text, nullable=False),
        Column("hash", Text, nullable=False, comment="SHA-256 of the whole key."),
        Column("scopes", ARRAY(Text), nullable=False),
        Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
        Column("revoked_at", DateTime(timezone=True)),
        Column("last_used_on", Date, comment="In UTC; a day at most is written for each key."),
        CheckConstraint("cardinality(scopes) > 0", name=op.f("ck_api_keys_scopes")),
    )
    # The default is for existing rows, and for the previous release, which does not use API keys
    # and runs for a while longer.
    op.add_column(
        "idempotency_keys",
        Column(
            "api_key",
            Text,
            nullable=False,
            server_default="",
            comment="The prefix of the API key that it came with.",
        ),
    )
    op.drop_constraint("pk_idempotency_keys", "idempotency_keys")
    op.create_primary_key("pk_idempotency_keys", "idempotency_keys", ["api_key", "key"])


def downgrade() -> None:
    # If two clients have used the same key, one row is deleted.
    op.execute(
        "DELETE FROM idempotency_keys one USING idempotency_keys other "
        "WHERE one.key = other.key AND one.api_key > other.api_key"
    )
    op.drop_constraint("pk_idempotency_keys", "idempotency_keys")
    op.create_primary_key("pk_idempotency_keys", "idempotency_keys", ["key"])
    op.drop_column("idempotency_keys", "api_key")
    op.drop_table("api_keys")
