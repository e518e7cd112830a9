"""The analytics page: orders, revenue and rejections by minute and by SKU."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from flask import Blueprint, current_app, render_template, request

from console.actions import analytics as actions
from console.actions.analytics import Report
from console.actions.figures import Figure, Line
from console.settings import ConsoleSettings
from console.web import sparkline
from console.web.sparkline import Drawing

analytics = Blueprint("analytics", __name__)

#: The spans that can be selected, by name.
SPANS = {
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(days=7),
}

#: Maximum number of minutes in the table.
LIMIT = 60

#: Maximum number of currencies whose revenue is drawn.
CURRENCIES = 3


@analytics.get("/analytics")
def show() -> str:
    """Show the figures of the last hour, day or week."""
    settings: ConsoleSettings = current_app.extensions["settings"]
    requested = request.args.get("span", "")
    span = requested if requested in SPANS else "hour"
    report = actions.show(settings, SPANS[span])
    return render_template(
        "analytics.html",
        report=report,
        span=span,
        spans=tuple(SPANS),
        minutes=report.minutes[:LIMIT],
        more=max(0, report.number - LIMIT),
        drawings=tuple(_drawings(report)),
    )


def _drawings(report: Report) -> Iterator[Drawing]:
    """Yield the last hour as lines: orders per minute, and revenue per minute and currency."""
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    hour = [now - timedelta(minutes=n) for n in reversed(range(60))]

    def line(name: str, field: str, currency: str | None = None) -> Line:
        values: dict[datetime, float] = defaultdict(float)
        for row in report.minutes:
            if currency in (None, row.currency):
                values[row.minute] += getattr(row, field)
        return Line(name=name, values=[values[minute] for minute in hour])

    counts = (line("placed", "placed"), line("rejected", "rejected"))
    yield _drawing("Orders", "per minute", counts)
    for sales in report.in_all[:CURRENCIES]:
        revenue = (line("revenue", "revenue", sales.currency),)
        yield _drawing("Revenue", "per minute", revenue, sales.currency)


def _drawing(title: str, text: str, lines: tuple[Line, ...], unit: str = "") -> Drawing:
    """Return lines of counts or, with a currency as the unit, of amounts in its minor units."""
    return sparkline.draw(Figure(title=title, text=text, unit=unit, lines=lines))
