"""Create the people, their logins, and the audit log."""

from alembic import op
from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    LargeBinary,
    Text,
    Uuid,
    func,
)

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_NOW = func.now()


def upgrade() -> None:
    op.create_table(
        "people",
        Column("name", Text, primary_key=True),
        Column("role", Text, nullable=False),
        Column(
            "services",
            ARRAY(Text),
            comment="The services on which an operator may act; null: all.",
        ),
        Column(
            "password_hash",
            Text,
            nullable=False,
            comment="scrypt, with its parameters and the salt.",
        ),
        Column("created_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
        Column("disabled_at", DateTime(timezone=True)),
        CheckConstraint("role IN ('viewer', 'operator', 'admin')", name="role"),
    )
    op.create_table(
        "logins",
        Column("token_hash", LargeBinary, primary_key=True, comment="HMAC-SHA-256 of the cookie."),
        Column(
            "person",
            Text,
            ForeignKey("people.name", ondelete="CASCADE"),
            comment="Null: the login of the settings.",
        ),
        Column("started_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
        Column("used_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
    )
    op.create_index("ix_logins_person", "logins", ["person"])
    op.create_index("ix_logins_started_at", "logins", ["started_at"])
    op.create_table(
        "audit_log",
        Column("id", BigInteger, Identity(always=True), primary_key=True),
        Column("at", DateTime(timezone=True), nullable=False, server_default=_NOW),
        Column("source", Text, nullable=False),
        Column("person", Text, nullable=False, comment="Of orderctl: the operating system's user."),
        Column("action", Text, nullable=False, comment="The endpoint or the command."),
        Column("service", Text),
        Column("subject", Text, comment="The id of the order, message or plan."),
        Column("outcome", Text, nullable=False),
        Column("detail", Text, comment="The reason, the result or the error."),
        Column("revealed", Text, comment="The kinds of personal data shown."),
        Column("request_id", Uuid, nullable=False),
        CheckConstraint("source IN ('console', 'orderctl')", name="source"),
        CheckConstraint("outcome IN ('begun', 'done', 'failed', 'refused')", name="outcome"),
    )
    op.create_index("ix_audit_log_at", "audit_log", ["at", "id"])
    op.create_index("ix_audit_log_person", "audit_log", ["person", "at", "id"])
    op.create_index("ix_audit_log_action", "audit_log", ["action", "at", "id"])


def downgrade() -> None:
    op.drop_table("audit_log")
    op.drop_table("logins")
    op.drop_table("people")
