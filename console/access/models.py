"""The console's tables of people, their logins and the audit log."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    LargeBinary,
    Text,
    func,
)
from sqlalchemy.orm import Mapped, mapped_column

from console.models import Base as Base


class Role(StrEnum):
    """The role of a person in the console; `console.access.rights` has the rights of each role."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


class PersonRow(Base):
    """A person who may log in. People are disabled, not deleted: the audit log names them."""

    __tablename__ = "people"
    __table_args__ = (CheckConstraint("role IN ('viewer', 'operator', 'admin')", name="role"),)

    name: Mapped[str] = mapped_column(primary_key=True)
    role: Mapped[str]
    services: Mapped[list[str] | None] = mapped_column(
        ARRAY(Text), comment="The services on which an operator may act; null: all."
    )
    password_hash: Mapped[str] = mapped_column(comment="scrypt, with its parameters and the salt.")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    disabled_at: Mapped[datetime | None]


class LoginRow(Base):
    """A login in a browser, from the password to the logout."""

    __tablename__ = "logins"
    __table_args__ = (
        Index("ix_logins_person", "person"),
        Index("ix_logins_started_at", "started_at"),
    )

    token_hash: Mapped[bytes] = mapped_column(
        LargeBinary, primary_key=True, comment="HMAC-SHA-256 of the cookie."
    )
    person: Mapped[str | None] = mapped_column(
        ForeignKey("people.name", ondelete="CASCADE"), comment="Null: the login of the settings."
    )
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    used_at: Mapped[datetime] = mapped_column(server_default=func.now())


class AuditRow(Base):
    """A line of the audit log. The console's role may insert lines, but not change or delete them.

    An action has two lines with one `request_id`: `begun`, and its outcome.
    """

    __tablename__ = "audit_log"
    __table_args__ = (
        CheckConstraint("source IN ('console', 'orderctl')", name="source"),
        CheckConstraint("outcome IN ('begun', 'done', 'failed', 'refused')", name="outcome"),
        Index("ix_audit_log_at", "at", "id"),
        Index("ix_audit_log_person", "person", "at", "id"),
        Index("ix_audit_log_action", "action", "at", "id"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=func.now())
    source: Mapped[str]
    person: Mapped[str] = mapped_column(comment="Of orderctl: the operating system's user.")
    action: Mapped[str] = mapped_column(comment="The endpoint or the command.")
    service: Mapped[str | None]
    subject: Mapped[str | None] = mapped_column(comment="The id of the order, message or plan.")
    outcome: Mapped[str]
    detail: Mapped[str | None] = mapped_column(comment="The reason, the result or the error.")
    revealed: Mapped[str | None] = mapped_column(comment="The kinds of personal data shown.")
    request_id: Mapped[UUID]
