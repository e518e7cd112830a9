"""How the operators' web page writes and draws, and what it refuses before it asks anybody."""

from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import certifi
import pytest
from flask.testing import FlaskClient
from pydantic import ValidationError

from console.actions.figures import Figure, Line
from console.actions.waiting import Waiting
from console.monitoring.prometheus import Values
from console.settings import ConsoleSettings
from console.web import answers as questions
from console.web.answers import Answer, answers
from console.web.app import create_app
from console.web.orders import traces
from console.web.readable import NOTHING, age, count, measure, moment
from console.web.sparkline import EDGE, HEIGHT, WIDTH, draw, latest
from span_store.models import SpanRow

PASSWORD = "a password of the tests"

SETTINGS: dict[str, Any] = {
    # Nobody listens there.
    "broker_admin_url": "https://127.0.0.1:9",
    "broker_port": 9,
    "broker_ca_file": certifi.where(),
    "broker_admin_user": "console",
    "broker_admin_password": "unknown",
    "database_port": 9,
    "database_ca_file": certifi.where(),
    "console_database_password": "unknown",
    "console_password": PASSWORD,
}


@pytest.fixture
def page() -> FlaskClient:
    """The page, over servers that are all down."""
    return create_app(ConsoleSettings(**SETTINGS)).test_client()


LOGIN = ("operator", PASSWORD)

# --- Words --------------------------------------------------------------------------------------


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
def test_an_age_is_written_with_its_two_largest_units(seconds: float | None, written: str) -> None:
    assert age(seconds) == written


@pytest.mark.parametrize(
    ("value", "unit", "written"),
    [(None, "s", NOTHING), (0.0, "s", "0 ms"), (0.0, "/s", "0/s"), (1.234, "/s", "1.23/s")],
)
def test_a_measure_has_its_unit(value: float | None, unit: str, written: str) -> None:
    assert measure(value, unit) == written


def test_what_is_not_known_is_told_apart_from_zero() -> None:
    assert (count(None), count(0), count(12_345)) == (
        NOTHING,
        "0",
        "12\N{NARROW NO-BREAK SPACE}345",
    )


def test_a_moment_is_in_utc_and_what_is_none_is_shown_as_it_is() -> None:
    assert moment("2026-11-22T18:00:00+01:00") == "2026-11-22 17:00:00"
    assert moment("yesterday, <b>") == "yesterday, <b>"
    assert moment(None) == NOTHING


# --- Drawings -----------------------------------------------------------------------------------


def figure(*values: Values) -> Figure:
    lines = tuple(Line(name=str(index), values=line) for index, line in enumerate(values))
    return Figure(title="a", text="", unit="s", lines=lines)


def test_a_line_goes_from_edge_to_edge_with_its_top_at_the_top() -> None:
    drawing = draw(figure([0.0, 2.0, 1.0]))

    ((piece,),) = drawing.pieces
    points = [tuple(map(float, point.split(","))) for point in piece.split()]
    assert drawing.top == 2.0
    assert [x for x, _ in points] == [EDGE, WIDTH / 2, WIDTH - EDGE]
    assert [y for _, y in points] == [HEIGHT - EDGE, EDGE, HEIGHT / 2]


def test_where_nothing_was_known_is_a_gap_and_a_lone_value_is_a_dot() -> None:
    drawing = draw(figure([1.0, 1.0, None, 1.0, None]))

    ((line, dot),) = drawing.pieces
    first, second = dot.split()
    assert len(line.split()) == 2
    assert first == second


def test_a_figure_without_values_is_empty_and_one_of_zeros_is_not() -> None:
    assert draw(figure([None, None], [])).is_empty
    assert not draw(figure([0.0, 0.0])).is_empty


def test_the_latest_value_is_the_last_that_is_known_but_none_from_long_ago() -> None:
    assert latest(Line(name="", values=[1.0, 2.0, None])) == 2.0
    assert latest(Line(name="", values=[1.0, None, None, None])) is None
    assert latest(Line(name="", values=[None])) is None


def test_a_trace_is_drawn_within_its_own_time() -> None:
    # given
    start = datetime(2026, 11, 22, tzinfo=UTC)
    spans = [
        span("a", None, start, 10_000),
        span("b", "a", start + timedelta(milliseconds=5), 15_000),
        span("c", "unknown", start + timedelta(milliseconds=20), 0),
    ]

    # when
    (trace,) = traces(spans)

    # then
    assert trace.milliseconds == 20.0
    assert [(bar.left, bar.width) for bar in trace.bars] == [(0, 50), (25, 75), (100, 0.6)]
    assert [bar.fall.is_orphan for bar in trace.bars] == [False, False, True]
    assert trace.bars[0].outcome == "attempt 2, retry, no way"


def test_the_trace_that_began_first_comes_first() -> None:
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


def test_the_icon_is_an_image() -> None:
    file = Path(questions.__file__).parent / "static/icon.svg"
    assert ElementTree.fromstring(file.read_text()).tag.endswith("svg")


# --- Who does not answer ------------------------------------------------------------------------


def test_a_question_that_nobody_answers_in_time_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # given
    monkeypatch.setattr(questions, "PATIENCE", 0.01)
    slow, quick = Future[int](), Future[int]()
    quick.set_result(7)

    # then
    assert answers([slow, quick]) == [
        Answer(problem="no response within 0.01 seconds"),
        Answer(7),
    ]
    assert slow.cancelled()


def test_what_nobody_expects_is_no_more_than_a_name_on_the_page(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # given
    broken = Future[Waiting]()
    broken.set_exception(ValueError("a secret"))

    # then
    assert answers([broken]) == [Answer(problem="ValueError; see the console's log")]
    assert "a secret" in caplog.text


@pytest.mark.parametrize("path", ["/overview", "/parked", "/orders", "/stock", "/no/such/page"])
def test_a_page_comes_also_when_every_server_is_down(page: FlaskClient, path: str) -> None:
    answer = page.get(path, auth=LOGIN)

    expected = {"/stock": 503, "/no/such/page": 404}.get(path, 200)
    assert answer.status_code == expected
    assert "<h1>" in answer.text
    assert "unknown" not in answer.text


def test_the_overview_says_what_it_cannot_see(page: FlaskClient) -> None:
    text = page.get("/overview", auth=LOGIN).text

    assert "<h1>Some data is unavailable</h1>" in text
    for name in ("RabbitMQ", "The database of the order service"):
        assert f"<strong>{name} is unavailable.</strong>" in text
    assert "set <code>PROMETHEUS_URL</code>" in text


# --- Who is let in ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "login",
    [None, ("operator", "wrong"), ("nobody", PASSWORD), ("operator", ""), ("", "")],
)
@pytest.mark.parametrize(
    "path", ["/", "/overview", "/orders", "/parked", "/stock", "/static/console.css", "/nowhere"]
)
def test_nobody_sees_anything_without_the_password(
    page: FlaskClient, login: tuple[str, str] | None, path: str
) -> None:
    answer = page.get(path, auth=login)

    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Basic ")
    assert answer.text == "log in\n"


def test_other_forms_of_login_are_refused(page: FlaskClient) -> None:
    for value in (f"Bearer {PASSWORD}", "Basic", "Basic %%%", "Digest username=operator"):
        assert page.get("/overview", headers={"Authorization": value}).status_code == 401


def test_the_health_endpoint_asks_nobody_and_tells_nothing(page: FlaskClient) -> None:
    answer = page.get("/readyz")
    assert (answer.status_code, answer.text) == (200, "ready\n")


def test_a_password_that_somebody_could_guess_is_no_setting() -> None:
    with pytest.raises(ValidationError, match="console_password"):
        ConsoleSettings(**SETTINGS | {"console_password": "secret"})


# --- What a browser may do ----------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/overview", "/readyz", "/nowhere", "/static/refresh.js"])
def test_every_answer_has_a_strict_policy(page: FlaskClient, path: str) -> None:
    with page.get(path, auth=LOGIN) as answer:
        headers = answer.headers

    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert {policy[name] for name in ("script-src", "style-src", "connect-src")} == {"'self'"}
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"


def test_no_page_has_a_script_or_a_style_of_its_own() -> None:
    # The policy would stop it, and the page be broken without a word.
    for template in (Path(questions.__file__).parent / "templates").glob("*.html"):
        text = template.read_text()
        assert " style=" not in text, template
        assert "<style" not in text, template
        assert " on" + "click" not in text, template
        assert "|safe" not in text.replace(" ", ""), template
        assert "http" + "s://" not in text, template


@pytest.mark.parametrize("token", [None, "", "wrong", "é"])
def test_a_form_without_the_token_is_refused(page: FlaskClient, token: str | None) -> None:
    form = {"every": "yes"} | ({} if token is None else {"token": token})

    answer = page.post("/parked/inventory/redrive", auth=LOGIN, data=form)

    assert answer.status_code == 403


def test_a_form_from_another_site_is_refused_even_with_the_token(page: FlaskClient) -> None:
    token = page.application.jinja_env.globals["token"]
    form = {"every": "yes", "token": token}

    for site in ("cross-site", "same-site"):
        headers = {"Sec-Fetch-Site": site}
        answer = page.post("/parked/inventory/redrive", auth=LOGIN, data=form, headers=headers)
        assert answer.status_code == 403


@pytest.mark.parametrize("site", [{}, {"Sec-Fetch-Site": "same-origin"}])
def test_a_form_passes_a_proxy_that_rewrites_the_host(
    page: FlaskClient, site: dict[str, str]
) -> None:
    token = page.application.jinja_env.globals["token"]
    headers = {"Origin": "https://console.example.com", "Host": "console:8000"} | site

    # An empty form, which the action itself refuses.
    form = {"token": token}
    answer = page.post("/parked/inventory/redrive", auth=LOGIN, data=form, headers=headers)

    assert answer.status_code == 400


def test_the_token_is_asked_for_after_the_password(page: FlaskClient) -> None:
    assert page.post("/parked/inventory/redrive", data={"every": "yes"}).status_code == 401


@pytest.mark.parametrize("form", [{}, {"every": "yes", "id": "e-1"}, {"every": "no"}])
def test_a_redrive_must_say_what(page: FlaskClient, form: dict[str, str]) -> None:
    token = page.application.jinja_env.globals["token"]

    answer = page.post("/parked/inventory/redrive", auth=LOGIN, data=form | {"token": token})

    assert answer.status_code == 400


def test_a_discard_must_say_what(page: FlaskClient) -> None:
    token = page.application.jinja_env.globals["token"]

    for form in ({}, {"id": ""}, {"every": "yes"}):
        answer = page.post("/parked/inventory/discard", auth=LOGIN, data=form | {"token": token})
        assert answer.status_code == 400, form


def test_a_service_without_a_parking_lot_has_no_page(page: FlaskClient) -> None:
    for path in (
        "/parked/nobody/discard?id=1",
        "/parked/trace/redrive",
        "/parked/nobody/message?id=1",
    ):
        assert page.get(path, auth=LOGIN).status_code == 404


def test_what_is_no_order_id_is_told_and_escaped(page: FlaskClient) -> None:
    answer = page.get("/orders", query_string={"id": '"><script>'}, auth=LOGIN)

    assert answer.status_code == 400
    assert '"><script>' not in answer.text
    assert "An order id has 32 digits" in answer.text
