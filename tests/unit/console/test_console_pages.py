"""The pages of the web console: partial data, login, and what a browser may do."""

from concurrent.futures import Future
from pathlib import Path
from xml.etree import ElementTree

import pytest
from flask.testing import FlaskClient
from pydantic import ValidationError

from console.actions.waiting import Waiting
from console.settings import ConsoleSettings
from console.web import queries
from console.web.app import create_app
from console.web.queries import Result, results
from testkit.processes.web_console import PASSWORD, log_in
from testkit.processes.web_console import token as valid_token
from tests.support.unreachable_servers import SETTINGS


@pytest.fixture
def page() -> FlaskClient:
    """A client of the web console while all servers are down."""
    return create_app(ConsoleSettings(**SETTINGS)).test_client()


LOGIN = ("operator", PASSWORD)


def test_the_icon_is_an_svg_image() -> None:
    file = Path(queries.__file__).parent / "static/icon.svg"
    assert ElementTree.fromstring(file.read_text()).tag.endswith("svg")


def test_a_query_without_a_response_in_time_is_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given one query that does not end and one that has ended
    monkeypatch.setattr(queries, "PATIENCE", 0.01)
    slow, quick = Future[int](), Future[int]()
    quick.set_result(7)

    # Then the first is cancelled and reported
    assert results([slow, quick]) == [
        Result(problem="no response within 0.01 seconds"),
        Result(7),
    ]
    assert slow.cancelled()


def test_a_page_shows_only_the_class_of_an_unexpected_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # Given a query that failed with an unexpected error
    broken = Future[Waiting]()
    broken.set_exception(ValueError("a secret"))

    # Then the page shows its class, and the log has its text
    assert results([broken]) == [Result(problem="ValueError; see the console's log")]
    assert "a secret" in caplog.text


@pytest.mark.parametrize(
    "path",
    [
        *("/overview", "/parked", "/parked/groups", "/parked/inventory/history?id=e-1"),
        *("/orders", "/stock", "/no/such/page"),
    ],
)
def test_every_page_works_when_all_servers_are_down(page: FlaskClient, path: str) -> None:
    response = page.get(path, auth=LOGIN)

    expected = {"/stock": 503, "/no/such/page": 404}.get(path, 200)
    assert response.status_code == expected
    assert "<h1>" in response.text
    # The map of the overview names unknown figures.
    assert path == "/overview" or "unknown" not in response.text


def test_the_overview_names_the_servers_that_are_unavailable(page: FlaskClient) -> None:
    text = page.get("/overview", auth=LOGIN).text

    assert "<h1>Some data is unavailable</h1>" in text
    for name in ("RabbitMQ", "The database of the order service"):
        assert f"<strong>{name} is unavailable.</strong>" in text
    assert "set <code>PROMETHEUS_URL</code>" in text


@pytest.mark.parametrize(
    "login",
    [None, ("operator", "wrong"), ("nobody", PASSWORD), ("operator", ""), ("", "")],
)
@pytest.mark.parametrize(
    "path",
    [
        *("/", "/overview", "/overview/stream", "/services/order", "/orders", "/parked", "/stock"),
        *("/audit", "/people", "/nowhere"),
    ],
)
def test_every_page_requires_the_password(
    page: FlaskClient, login: tuple[str, str] | None, path: str
) -> None:
    response = page.get(path, auth=login)

    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Basic ")
    assert response.text.startswith("log in")


def test_other_authentication_schemes_are_rejected(page: FlaskClient) -> None:
    for value in (f"Bearer {PASSWORD}", "Basic", "Basic %%%", "Digest username=operator"):
        assert page.get("/overview", headers={"Authorization": value}).status_code == 401


def test_the_readiness_probe_needs_no_password(page: FlaskClient) -> None:
    response = page.get("/readyz")
    assert (response.status_code, response.text) == (200, "ready\n")


def test_a_short_password_is_rejected() -> None:
    with pytest.raises(ValidationError, match="console_password"):
        ConsoleSettings(**SETTINGS | {"console_password": "secret"})


def test_a_browser_is_sent_to_the_login_page_and_back(page: FlaskClient) -> None:
    response = page.get("/parked?x=1", headers={"Accept": "text/html,*/*"})

    assert (response.status_code, response.location) == (303, "/login?next=/parked?x%3D1")
    assert 'name="next" value="/parked?x=1"' in page.get(response.location).text


@pytest.mark.parametrize("target", ["//evil.example", "/\\evil.example", "http:evil", "x", "/a\n"])
def test_the_login_page_leads_only_to_this_site(page: FlaskClient, target: str) -> None:
    html = page.get("/login", query_string={"next": target}).text

    assert 'name="next" value="/overview"' in html


def test_the_login_page_needs_no_login_and_no_script(page: FlaskClient) -> None:
    html = page.get("/login").text

    for name in ("name", "password"):
        assert f'<label for="{name}">' in html
        assert f'id="{name}"' in html
    assert "<script" not in html
    with page.get("/static/console.css") as style:
        assert style.status_code == 200


def test_a_browser_is_asked_for_the_fallback_login_during_an_outage(page: FlaskClient) -> None:
    # When a form is sent while the console's database is down
    response = log_in(page, "operator", PASSWORD)

    # Then the browser's own prompt appears, whose password needs no database
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Basic ")
    assert "only CONSOLE_USER can log in" in response.text
    assert page.get("/overview", auth=LOGIN).status_code == 200


def test_an_action_without_the_database_is_logged(
    page: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a console whose database is down
    form = {"token": valid_token(page), "id": "e-1"}

    # When an action is sent
    response = page.post("/parked/inventory/redrive", auth=LOGIN, data=form)

    # Then it is run, and its two audit lines are in the log
    assert response.status_code == 303
    lines = [vars(r) for r in caplog.records if r.message == "audit line not stored"]
    assert [line["outcome"] for line in lines] == ["begun", "failed"]
    assert {(line["person"], line["action"], line["service"]) for line in lines} == {
        ("operator", "parked.redrive", "inventory")
    }
    assert len({line["request_id"] for line in lines}) == 1


@pytest.mark.parametrize("path", ["/overview", "/readyz", "/nowhere", "/static/live.js"])
def test_every_response_has_a_strict_content_security_policy(page: FlaskClient, path: str) -> None:
    with page.get(path, auth=LOGIN) as response:
        headers = response.headers

    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert {policy[name] for name in ("script-src", "style-src", "connect-src")} == {"'self'"}
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"


def test_no_template_has_an_inline_script_or_style() -> None:
    # The browser would block it by the policy, without an error on the page.
    for template in (Path(queries.__file__).parent / "templates").rglob("*.html"):
        text = template.read_text()
        assert " style=" not in text, template
        assert "<style" not in text, template
        assert " on" + "click" not in text, template
        assert "|safe" not in text.replace(" ", ""), template
        assert "http" + "s://" not in text, template


@pytest.mark.parametrize("token", [None, "", "wrong", "é"])
def test_a_form_without_the_csrf_token_is_rejected(page: FlaskClient, token: str | None) -> None:
    form = {"id": "e-1"} | ({} if token is None else {"token": token})

    response = page.post("/parked/inventory/redrive", auth=LOGIN, data=form)

    assert response.status_code == 403


def test_a_form_from_another_site_is_rejected_despite_its_token(page: FlaskClient) -> None:
    token = valid_token(page)
    form = {"id": "e-1", "token": token}

    for site in ("cross-site", "same-site"):
        headers = {"Sec-Fetch-Site": site}
        response = page.post("/parked/inventory/redrive", auth=LOGIN, data=form, headers=headers)
        assert response.status_code == 403


@pytest.mark.parametrize("site", [{}, {"Sec-Fetch-Site": "same-origin"}])
def test_a_form_works_behind_a_proxy_that_rewrites_the_host(
    page: FlaskClient, site: dict[str, str]
) -> None:
    token = valid_token(page)
    headers = {"Origin": "https://console.example.com", "Host": "console:8000"} | site

    # The action itself rejects an empty form.
    form = {"token": token}
    response = page.post("/parked/inventory/redrive", auth=LOGIN, data=form, headers=headers)

    assert response.status_code == 400


def test_the_password_is_checked_before_the_csrf_token(page: FlaskClient) -> None:
    assert page.post("/parked/inventory/redrive", data={"id": "e-1"}).status_code == 401


@pytest.mark.parametrize("form", [{}, {"id": ""}, {"every": "yes"}])
def test_a_redrive_without_a_selection_is_rejected(page: FlaskClient, form: dict[str, str]) -> None:
    token = valid_token(page)

    response = page.post("/parked/inventory/redrive", auth=LOGIN, data=form | {"token": token})

    assert response.status_code == 400


def test_a_discard_without_an_id_is_rejected(page: FlaskClient) -> None:
    token = valid_token(page)

    for form in ({}, {"id": ""}, {"every": "yes"}):
        response = page.post("/parked/inventory/discard", auth=LOGIN, data=form | {"token": token})
        assert response.status_code == 400, form


@pytest.mark.parametrize("reason", [None, "", "  ", "x" * 501])
def test_a_discard_without_a_reason_is_rejected(page: FlaskClient, reason: str | None) -> None:
    token = valid_token(page)
    form = {"id": "e-1", "token": token} | ({} if reason is None else {"reason": reason})

    answer = page.post("/parked/inventory/discard", auth=LOGIN, data=form)

    assert answer.status_code == 400


def test_a_service_without_a_parking_lot_has_no_page(page: FlaskClient) -> None:
    for path in (
        "/parked/nobody/discard?id=1",
        "/parked/trace/redrive",
        "/parked/nobody/message?id=1",
        "/parked/nobody/edit?id=1",
        "/parked/nobody/history?id=1",
        "/parked/nobody/groups/0123",
    ):
        assert page.get(path, auth=LOGIN).status_code == 404


def test_an_invalid_order_id_is_reported_and_escaped(page: FlaskClient) -> None:
    response = page.get("/orders", query_string={"id": '"><script>'}, auth=LOGIN)

    assert response.status_code == 400
    assert '"><script>' not in response.text
    assert "An order id has 32 digits" in response.text
