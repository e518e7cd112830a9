"""The fraud check's table: the facts about each order that later judgements need."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, DateTime, Index, Integer, MetaData, Text, false, func, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from eventbus.database.db import NAMING


class Base(DeclarativeBase):
    """The base class of the fraud check's tables."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {  # noqa: RUF012
        str: Text,
        int: BigInteger,
        datetime: DateTime(timezone=True),
    }


class Judgement(Base):
    """The facts about an order that the rules use, and whether it is suspected."""

    __tablename__ = "judgements"
    __table_args__ = (
        # Indexes to count the orders of a window, from its end.
        Index("ix_judgements_customer", "customer", "placed_at"),
        Index(
            "ix_judgements_network",
            "network",
            "placed_at",
            postgresql_where=text("network IS NOT NULL"),
        ),
        # An index for the retention.
        Index("ix_judgements_judged_at", "judged_at"),
    )

    order_id: Mapped[UUID] = mapped_column(primary_key=True)
    placed_at: Mapped[datetime] = mapped_column(comment="The event's own time.")
    customer_email: Mapped[str]
    customer: Mapped[str] = mapped_column(comment="Whom its orders are counted for.")
    client_ip: Mapped[str | None]
    network: Mapped[str | None] = mapped_column(comment="What its orders are counted for.")
    currency: Mapped[str]
    total: Mapped[int] = mapped_column(comment="In minor units of the currency.")
    pieces: Mapped[int]
    skus: Mapped[int] = mapped_column(Integer, comment="How many different ones.")
    event_id: Mapped[UUID] = mapped_column(comment="Of its order.created.")
    traceparent: Mapped[str | None] = mapped_column(comment="Of the handler that judged it.")
    replayed: Mapped[bool] = mapped_column(
        server_default=false(), comment="Received from history: no external side effects."
    )
    suspected: Mapped[bool] = mapped_column(server_default=false())
    judged_at: Mapped[datetime] = mapped_column(server_default=func.now())
