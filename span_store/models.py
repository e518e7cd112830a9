"""The table of spans, with one row for each recorded span."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, Index, MetaData, Text, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from eventbus.database.db import NAMING


class Base(DeclarativeBase):
    """The tables of the span store."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {datetime: DateTime(timezone=True), str: Text}  # noqa: RUF012


class SpanRow(Base):
    """A span as exported by its process."""

    __tablename__ = "spans"
    __table_args__ = (
        Index("ix_spans_order_id", "order_id", postgresql_where=text("order_id IS NOT NULL")),
        Index("ix_spans_received_at", "received_at"),
    )

    trace_id: Mapped[str] = mapped_column(primary_key=True)
    span_id: Mapped[str] = mapped_column(primary_key=True)
    parent_id: Mapped[str | None] = mapped_column(comment="Null for the first of its trace.")
    service: Mapped[str]
    name: Mapped[str]
    kind: Mapped[str]
    started_at: Mapped[datetime]
    microseconds: Mapped[int] = mapped_column(BigInteger, comment="How long it took.")
    status: Mapped[str] = mapped_column(comment="unset, ok or error.")
    reason: Mapped[str | None] = mapped_column(comment="Why it is an error.")
    order_id: Mapped[str | None]
    attributes: Mapped[dict[str, Any]] = mapped_column(JSONB)
    received_at: Mapped[datetime] = mapped_column(server_default=func.now())
