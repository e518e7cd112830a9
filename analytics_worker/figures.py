"""Queries for the figures in the projections."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from analytics_worker.models import MinuteRow, PositionRow, SkippedRow, SkuMinuteRow
from eventbus.outbox.lag import age


@dataclass(frozen=True, kw_only=True)
class Sales:
    """The orders of a period in one currency; amounts are in minor units."""

    currency: str
    placed: int
    placed_total: int
    confirmed: int
    shipped: int
    revenue: int
    rejected: int
    cancelled: int
    decided: int
    decision_microseconds: int

    @property
    def rejection_rate(self) -> float | None:
        """The rejected fraction of decided orders, or None without decided orders."""
        return self.rejected / self.decided if self.decided else None

    @property
    def seconds_to_decision(self) -> float | None:
        """The average time between an order and its decision."""
        return self.decision_microseconds / self.decided / 1e6 if self.decided else None


@dataclass(frozen=True, kw_only=True)
class Minute(Sales):
    """The orders placed in one minute."""

    minute: datetime


@dataclass(frozen=True, kw_only=True)
class SkuSales:
    """The orders of one SKU in a period and one currency."""

    sku: str
    currency: str
    placed: int
    pieces: int
    confirmed: int
    revenue: int


_COUNTED = tuple(name for name in Sales.__dataclass_fields__ if name != "currency")


def by_minute(session: Session, span: timedelta, limit: int) -> Sequence[Minute]:
    """Return the last minutes within `span` in which an order was placed, latest first.

    At most `limit` minutes are returned. A minute with several currencies counts several times.
    """
    # The query selects columns rather than objects, because a week has ten thousand rows.
    columns = [getattr(MinuteRow, name) for name in _COUNTED]
    rows = session.execute(
        select(MinuteRow.minute, MinuteRow.currency, *columns)
        .where(MinuteRow.minute > func.now() - span)
        .order_by(MinuteRow.minute.desc(), MinuteRow.currency)
        .limit(limit)
    )
    return [
        Minute(
            minute=minute,
            currency=currency,
            **dict(zip(_COUNTED, map(int, figures), strict=True)),
        )
        for minute, currency, *figures in rows
    ]


def minutes(session: Session, span: timedelta) -> int:
    """Return the number of the minutes that `by_minute` returns without a limit."""
    rows = select(func.count()).select_from(MinuteRow)
    return session.scalar(rows.where(MinuteRow.minute > func.now() - span)) or 0


def in_all(session: Session, span: timedelta) -> Sequence[Sales]:
    """Return the sums of the last `span`, for each currency."""
    # A week has ten thousand minutes.
    sums = [func.sum(getattr(MinuteRow, name)) for name in _COUNTED]
    rows = session.execute(
        select(MinuteRow.currency, *sums)
        .where(MinuteRow.minute > func.now() - span)
        .group_by(MinuteRow.currency)
        .order_by(MinuteRow.currency)
    )
    return [
        Sales(currency=currency, **dict(zip(_COUNTED, map(int, figures), strict=True)))
        for currency, *figures in rows
    ]


def by_sku(session: Session, span: timedelta, limit: int) -> Sequence[SkuSales]:
    """Return the SKUs with the highest revenue in the last `span`."""
    names = ("placed", "pieces", "confirmed", "revenue")
    sums = [func.sum(getattr(SkuMinuteRow, name)).label(name) for name in names]
    rows = session.execute(
        select(SkuMinuteRow.sku, SkuMinuteRow.currency, *sums)
        .where(SkuMinuteRow.minute > func.now() - span)
        .group_by(SkuMinuteRow.sku, SkuMinuteRow.currency)
        .order_by(func.sum(SkuMinuteRow.revenue).desc(), SkuMinuteRow.sku)
        .limit(limit)
    )
    return [
        SkuSales(sku=row.sku, currency=row.currency, **{n: int(getattr(row, n)) for n in names})
        for row in rows
    ]


def behind(session: Session) -> float | None:
    """Return the seconds since the projections were last up to date, or None if they never were."""
    row = session.execute(select(age(PositionRow.caught_up_at.expression))).first()
    return row[0] if row else None


def skipped(session: Session) -> int:
    """Return the number of stored messages that are missing from the figures due to an error."""
    return session.scalar(select(func.count()).select_from(SkippedRow)) or 0
