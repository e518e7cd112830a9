"""Figures, durations, times and traces as the web console displays them."""

from datetime import UTC, datetime, timedelta

import pytest

from console.actions.figures import Figure, Line
from console.monitoring.prometheus import Values
from console.web.orders.traces import traces
from console.web.readable import NOTHING, age, count, measure, moment
from console.web.sparkline import EDGE, HEIGHT, WIDTH, draw, latest
from span_store.models import SpanRow


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (None, NOTHING),
        (0, NOTHING),
        (0.0421, "42 ms"),
        (1, "1 s"),
        (59.6, "1 min"),
        (3_725, "1 h 2 min"),
        (90_061, "1 d 1 h"),
    ],
)
def test_an_age_has_its_two_largest_units(seconds: float | None, written: str) -> None:
    assert age(seconds) == written


@pytest.mark.parametrize(
    ("value", "unit", "written"),
    [(None, "s", NOTHING), (0.0, "s", "0 ms"), (0.0, "/s", "0/s"), (1.234, "/s", "1.23/s")],
)
def test_a_measure_has_its_unit(value: float | None, unit: str, written: str) -> None:
    assert measure(value, unit) == written


def test_an_unknown_count_differs_from_zero() -> None:
    assert (count(None), count(0), count(12_345)) == (
        NOTHING,
        "0",
        "12\N{NARROW NO-BREAK SPACE}345",
    )


def test_a_time_is_shown_in_utc_and_other_text_unchanged() -> None:
    assert moment("2026-11-22T18:00:00+01:00") == "2026-11-22 17:00:00"
    assert moment("yesterday, <b>") == "yesterday, <b>"
    assert moment(None) == NOTHING


def figure(*values: Values) -> Figure:
    lines = tuple(Line(name=str(index), values=line) for index, line in enumerate(values))
    return Figure(title="a", text="", unit="s", lines=lines)


def test_a_line_fills_the_drawing() -> None:
    drawing = draw(figure([0.0, 2.0, 1.0]))

    ((piece,),) = drawing.pieces
    points = [tuple(map(float, point.split(","))) for point in piece.split()]
    assert drawing.top == 2.0
    assert [x for x, _ in points] == [EDGE, WIDTH / 2, WIDTH - EDGE]
    assert [y for _, y in points] == [HEIGHT - EDGE, EDGE, HEIGHT / 2]


def test_a_missing_value_is_a_gap_and_a_single_value_a_dot() -> None:
    drawing = draw(figure([1.0, 1.0, None, 1.0, None]))

    ((line, dot),) = drawing.pieces
    first, second = dot.split()
    assert len(line.split()) == 2
    assert first == second


def test_a_figure_is_empty_only_without_values() -> None:
    assert draw(figure([None, None], [])).is_empty
    assert not draw(figure([0.0, 0.0])).is_empty


def test_the_latest_value_is_the_last_known_unless_it_is_old() -> None:
    assert latest(Line(name="", values=[1.0, 2.0, None])) == 2.0
    assert latest(Line(name="", values=[1.0, None, None, None])) is None
    assert latest(Line(name="", values=[None])) is None


def test_a_trace_is_drawn_within_its_duration() -> None:
    # Given a trace with an orphan
    start = datetime(2026, 11, 22, tzinfo=UTC)
    spans = [
        span("a", None, start, 10_000),
        span("b", "a", start + timedelta(milliseconds=5), 15_000),
        span("c", "unknown", start + timedelta(milliseconds=20), 0),
    ]

    # When it is drawn
    (trace,) = traces(spans)

    # Then each bar has its place in the duration of the trace
    assert trace.milliseconds == 20.0
    assert [(bar.left, bar.width) for bar in trace.bars] == [(0, 50), (25, 75), (100, 0.6)]
    assert [bar.fall.is_orphan for bar in trace.bars] == [False, False, True]
    assert trace.bars[0].outcome == "attempt 2, retry, no way"


def test_traces_are_sorted_by_their_start() -> None:
    start = datetime(2026, 11, 22, tzinfo=UTC)
    spans = [span(n, None, start, 1, trace_id=t) for n, t in (("1", "b"), ("2", "a"), ("3", "b"))]

    assert [(t.id, len(t.bars)) for t in traces(spans)] == [("b", 2), ("a", 1)]


def span(
    span_id: str, parent: str | None, at: datetime, microseconds: int, trace_id: str = "t"
) -> SpanRow:
    return SpanRow(
        trace_id=trace_id,
        span_id=span_id,
        parent_id=parent,
        service="order-worker",
        name="process",
        started_at=at,
        microseconds=microseconds,
        status="error",
        reason="no way",
        attributes={"attempt": 2, "outcome": "retry"},
    )
