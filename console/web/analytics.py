"""What was sold: orders and revenue by minute and by SKU, what was rejected, and how fast."""

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

#: The spans that can be looked at, by how they are written.
SPANS = {
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(days=7),
}

#: Minutes in the table.
LIMIT = 60

#: Whose revenue is drawn.
CURRENCIES = 3


@analytics.get("/analytics")
def show() -> str:
    """Show the figures of the last hour, day or week."""
    settings: ConsoleSettings = current_app.extensions["settings"]
    wanted = request.args.get("span", "")
    span = wanted if wanted in SPANS else "hour"
    report = actions.show(settings, SPANS[span])
    return render_template(
        "analytics.html",
        report=report,
        span=span,
        spans=tuple(SPANS),
        minutes=report.minutes[:LIMIT],
        more=max(0, len(report.minutes) - LIMIT),
        drawings=tuple(_drawings(report)),
    )


def _drawings(report: Report) -> Iterator[Drawing]:
    """Yield the last hour as lines: the orders of each minute, and each currency's revenue."""
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    hour = [now - timedelta(minutes=n) for n in reversed(range(60))]

    def line(name: str, field: str, currency: str | None = None) -> Line:
        values: dict[datetime, float] = defaultdict(float)
        for each in report.minutes:
            if currency in (None, each.currency):
                values[each.minute] += getattr(each, field)
        return Line(name=name, values=[values[minute] for minute in hour])

    counts = (line("placed", "placed"), line("rejected", "rejected"))
    yield _drawing("Orders", "in a minute", counts)
    for sales in report.in_all[:CURRENCIES]:
        revenue = (line("revenue", "revenue", sales.currency),)
        yield _drawing("Revenue", f"in a minute, in minor units of {sales.currency}", revenue)


def _drawing(title: str, text: str, lines: tuple[Line, ...]) -> Drawing:
    return sparkline.draw(Figure(title=title, text=text, unit="", lines=lines))
