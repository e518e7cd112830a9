"""Asks Prometheus how orders have been doing."""

from dataclasses import dataclass

from console.monitoring.prometheus import Alert, Prometheus, Values
from console.settings import ConsoleSettings

#: Seconds that a figure covers, and between two of its values.
SPAN, STEP = 1800, 30

#: Seconds in which orders are counted.
LATELY = 300

_CONFIRMED = "orders_event_confirmed_seconds"


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a figure."""

    name: str
    values: Values


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Values over the last half an hour; `unit` is a rate's `/s`, or `s` for seconds."""

    title: str
    text: str
    unit: str
    lines: tuple[Line, ...]


@dataclass(frozen=True, kw_only=True)
class Lately:
    """What Prometheus knows."""

    alerts: list[Alert]
    #: By the event's type: how many left in the last minutes.
    events: dict[str, float]
    #: By the parking lot's name: seconds for which it has not been empty, if it is not.
    parked: dict[str, float]
    figures: tuple[Figure, ...]


def lately(settings: ConsoleSettings) -> Lately | None:
    """Return it, or None when there is no Prometheus. Raises `ActionError` when it is silent."""
    if settings.prometheus_url is None:
        return None
    with Prometheus(settings.prometheus_url) as prometheus:
        return Lately(
            alerts=prometheus.alerts(),
            events=prometheus.now(_left(), "type"),
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


def _left() -> str:
    count = f"{_CONFIRMED}_count"
    before = f"{count} offset {LATELY}s"
    # Of what was not yet counted then, the whole count is new, its first value, too.
    return (
        f"sum by (type) ((increase({count}[{LATELY}s]) and {before}) or ({count} unless {before}))"
    )


def _rate(event_type: str) -> str:
    return f'sum(rate({_CONFIRMED}_count{{type="{event_type}"}}[1m]))'


def _quantiles(metric: str) -> dict[str, str]:
    return {
        f"p{percent}": f"histogram_quantile(0.{percent}, sum by (le) (rate({metric}_bucket[1m])))"
        for percent in (50, 99)
    }


_FIGURES = (
    ("Orders placed", "in a second", "/s", {"placed": _rate("order.created")}),
    (
        "Outcomes",
        "in a second",
        "/s",
        {"confirmed": _rate("order.confirmed"), "cancelled": _rate("order.cancelled")},
    ),
    (
        "Event to effect",
        "with waits and retries",
        "s",
        _quantiles("orders_event_handled_seconds"),
    ),
    ("Handler", "one attempt", "s", _quantiles("orders_handler_seconds")),
)
