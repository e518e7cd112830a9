"""Alerts and recent figures of the orders, from Prometheus."""

from dataclasses import dataclass

from console.monitoring.prometheus import Alert, Prometheus, Values

#: Number of seconds that a figure covers, and number of seconds between two of its values.
SPAN, STEP = 600, 5

#: Number of seconds over which orders are counted.
LATELY = 300

_CONFIRMED = "orders_event_confirmed_seconds"


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a figure."""

    name: str
    values: Values


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Values of the last ten minutes; `unit` is `/s` for a rate, or `s` for seconds."""

    title: str
    text: str
    unit: str
    lines: tuple[Line, ...]


@dataclass(frozen=True, kw_only=True)
class Lately:
    """Alerts and recent figures from Prometheus."""

    alerts: list[Alert]
    #: Number of events that were published in the last minutes, by type.
    events: dict[str, float]
    #: Number of events per second that each service currently publishes.
    published: dict[str, float]
    #: Seconds since each parking lot that is not empty was last empty, by its name.
    parked: dict[str, float]
    figures: tuple[Figure, ...]


def lately(prometheus: Prometheus) -> Lately:
    """Return alerts and figures. Raises `ActionError` if Prometheus does not respond."""
    return Lately(
        alerts=prometheus.alerts(),
        events=prometheus.now(_published(), "type"),
        published=prometheus.now(_published_now(), "service"),
        parked=prometheus.now("orders_parked_lasting_seconds > 0", "queue"),
        figures=tuple(
            Figure(
                title=title,
                text=text,
                unit=unit,
                lines=tuple(
                    Line(name=name, values=prometheus.lately(expr, seconds=SPAN, step=STEP))
                    for name, expr in lines.items()
                ),
            )
            for title, text, unit, lines in _FIGURES
        ),
    )


def _published() -> str:
    count = f"{_CONFIRMED}_count"
    before = f"{count} offset {LATELY}s"
    # If a series did not exist before, all of its events are new, including its first value.
    return (
        f"sum by (type) ((increase({count}[{LATELY}s]) and {before}) or ({count} unless {before}))"
    )


def _published_now() -> str:
    # A service without events so far has no series. Its rate is 0 if it is scraped, otherwise
    # unknown.
    return f"sum by (service) ({_now()}) or 0 * max by (service) (up == 1)"


def _now(labels: str = "") -> str:
    # The rate covers the last two scrapes, because a rate over a minute would show a burst late and
    # understate it.
    return f"irate({_CONFIRMED}_count{{{labels}}}[1m])"


def _rate(event_type: str) -> str:
    matcher = f'type="{event_type}"'
    return f"sum({_now(matcher)})"


def _quantiles(metric: str) -> dict[str, str]:
    return {
        f"p{percent}": f"histogram_quantile(0.{percent}, sum by (le) (rate({metric}_bucket[1m])))"
        for percent in (50, 99)
    }


_FIGURES = (
    ("Orders placed", "per second", "/s", {"placed": _rate("order.created")}),
    (
        "Outcomes",
        "per second",
        "/s",
        {"confirmed": _rate("order.confirmed"), "cancelled": _rate("order.cancelled")},
    ),
    (
        "Event to effect",
        "including waits and retries",
        "s",
        _quantiles("orders_event_handled_seconds"),
    ),
    ("Handler", "one attempt", "s", _quantiles("orders_handler_seconds")),
)
