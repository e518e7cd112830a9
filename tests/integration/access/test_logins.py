"""Logins in the web console: the form, its limits, and what ends a login."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import func, select, update
from throttled import rate_limiter

from common.kombu_topology import CONSOLE
from console.access import people
from console.access.models import LoginRow, Role
from console.databases.service_database import transaction
from console.settings import ConsoleSettings, DatabaseSettings
from console.web.access import attempts
from console.web.access.login import COOKIE
from console.web.app import create_app
from testkit.processes.web_console import PASSWORD, hidden, log_in

HTML = {"Accept": "text/html"}


@pytest.fixture
def ada(database: DatabaseSettings) -> str:
    """The password of a person."""
    with transaction(database, CONSOLE) as session:
        return people.add(session, "ada", Role.OPERATOR)


@pytest.fixture
def no_refill(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits of failed logins that do not depend on the time; request it before the console."""
    monkeypatch.setattr(attempts, "_OF_A_NAME", rate_limiter.per_day(1, burst=10))
    monkeypatch.setattr(attempts, "_OF_AN_ADDRESS", rate_limiter.per_day(1, burst=30))


def age_logins(database: DatabaseSettings, **ages: timedelta) -> None:
    with transaction(database, CONSOLE) as session:
        session.execute(update(LoginRow).values({k: func.now() - v for k, v in ages.items()}))


def stored(database: DatabaseSettings) -> list[LoginRow]:
    with transaction(database, CONSOLE) as session:
        return list(session.scalars(select(LoginRow)))


def is_logged_in(console: FlaskClient) -> bool:
    return console.get("/parked/inventory/plan", headers=HTML).status_code == 200


def test_a_person_logs_in_and_out(
    console: FlaskClient, ada: str, database: DatabaseSettings
) -> None:
    # When a person logs in
    response = log_in(console, "ada", ada, next="/parked/groups")

    # Then the person is sent to the requested page, which names them
    assert (response.status_code, response.location) == (303, "/parked/groups")
    page = console.get("/parked/inventory/plan", headers=HTML)
    assert "ada, operator" in page.text
    # And only a hash of the cookie is stored
    cookie = console.get_cookie(COOKIE)
    assert cookie
    (row,) = stored(database)
    assert row.person == "ada"
    assert cookie.value.encode() not in row.token_hash

    # When the person logs out
    token = hidden(console.get("/login"))["token"]
    assert console.post("/logout", data={"token": token}).status_code == 403
    (logout,) = set(_tokens(page.text))
    assert console.post("/logout", data={"token": logout}).status_code == 303

    # Then the cookie is useless, also if it was copied
    console.set_cookie(COOKIE, cookie.value)
    assert not is_logged_in(console)
    assert stored(database) == []


def _tokens(html: str) -> Iterator[str]:
    for part in html.split('name="token" value="')[1:]:
        yield part.partition('"')[0]


def test_the_cookie_is_kept_from_scripts_and_other_sites(console: FlaskClient, ada: str) -> None:
    response = log_in(console, "ada", ada)

    (cookie,) = [c for c in response.headers.getlist("Set-Cookie") if c.startswith(COOKIE)]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert "Secure" not in cookie


def test_the_cookies_are_secure_over_https(console: FlaskClient, ada: str) -> None:
    # When a person logs in over HTTPS
    form = console.get("/login", base_url="https://localhost")
    data = hidden(form) | {"name": "ada", "password": ada}
    response = console.post("/login", base_url="https://localhost", data=data)

    # Then each cookie is sent only over HTTPS
    cookies = form.headers.getlist("Set-Cookie") + response.headers.getlist("Set-Cookie")
    assert any(cookie.startswith(COOKIE) for cookie in cookies)
    assert all("Secure" in cookie for cookie in cookies)


@pytest.mark.parametrize("proxies", [0, 1])
def test_only_a_trusted_proxy_reports_https(console_settings: dict[str, Any], proxies: int) -> None:
    # Given a console with and without a trusted proxy
    settings = ConsoleSettings(**console_settings, console_trusted_proxies=proxies)
    console = create_app(settings).test_client()

    # When a request claims that it was made over HTTPS
    response = console.get("/login", headers={"X-Forwarded-Proto": "https"})

    # Then only the proxy is believed
    assert ("Secure" in response.headers["Set-Cookie"]) is bool(proxies)


def test_each_login_has_a_new_token_and_ends_the_previous_one(
    console: FlaskClient, ada: str, database: DatabaseSettings
) -> None:
    # Given a login, and a form of it
    log_in(console, "ada", ada)
    first = console.get_cookie(COOKIE)
    form = hidden(console.get("/parked/inventory/plan"))

    # When the person logs in again
    log_in(console, "ada", ada)

    # Then the first token has ended, and its form is rejected
    second = console.get_cookie(COOKIE)
    assert first
    assert second
    assert first.value != second.value
    assert len(stored(database)) == 1
    assert console.post("/parked/inventory/redrive", data=form).status_code == 403


@pytest.mark.parametrize(
    "ages",
    [
        {"used_at": timedelta(hours=8, minutes=1)},
        {"used_at": timedelta(0), "started_at": timedelta(days=7, minutes=1)},
    ],
    ids=["idle", "old"],
)
def test_a_login_ends_after_its_limits(
    console: FlaskClient, ada: str, database: DatabaseSettings, ages: dict[str, timedelta]
) -> None:
    # Given a login that is within its limits, then beyond one of them
    log_in(console, "ada", ada)
    age_logins(database, used_at=timedelta(hours=7), started_at=timedelta(days=6))
    assert is_logged_in(console)
    age_logins(database, **ages)

    # Then it has ended
    assert not is_logged_in(console)


def test_a_page_that_refreshes_itself_does_not_extend_a_login(
    console: FlaskClient, ada: str, database: DatabaseSettings
) -> None:
    # Given a login that was used an hour ago
    log_in(console, "ada", ada)
    age_logins(database, used_at=timedelta(hours=1))
    (before,) = stored(database)

    # When a script requests a page, and then a person does
    console.get("/parked/inventory/plan", headers={"Sec-Fetch-Mode": "cors"})
    (refreshed,) = stored(database)
    console.get("/parked/inventory/plan", headers={"Sec-Fetch-Mode": "navigate"})
    (visited,) = stored(database)

    # Then only the person's request counts
    assert refreshed.used_at == before.used_at
    assert visited.used_at > before.used_at


def test_old_logins_are_deleted_at_the_next_one(
    console: FlaskClient, ada: str, database: DatabaseSettings
) -> None:
    log_in(console, "ada", ada)
    age_logins(database, started_at=timedelta(days=8))
    console.delete_cookie(COOKIE)

    log_in(console, "ada", ada)

    assert len(stored(database)) == 1


@pytest.mark.parametrize("change", ["disable", "password"])
def test_a_change_of_a_person_ends_their_logins(
    console: FlaskClient, ada: str, database: DatabaseSettings, change: str
) -> None:
    # Given a person with a login
    log_in(console, "ada", ada)
    assert is_logged_in(console)

    # When the person is disabled, or receives a new password
    with transaction(database, CONSOLE) as session:
        if change == "disable":
            people.disable(session, "ada")
        else:
            people.change_password(session, "ada")

    # Then the login and the password are useless
    assert not is_logged_in(console)
    assert log_in(console, "ada", ada).status_code == 401
    assert console.get("/parked/groups", auth=("ada", ada)).status_code == 401


def test_a_person_may_authenticate_each_request(console: FlaskClient, ada: str) -> None:
    assert console.get("/parked/inventory/plan", auth=("ada", ada)).status_code == 200
    assert console.get("/parked/inventory/plan", auth=("ada", PASSWORD)).status_code == 401


def test_the_login_of_the_settings_has_a_session_as_well(
    console: FlaskClient, database: DatabaseSettings
) -> None:
    assert log_in(console, "operator", PASSWORD).status_code == 303

    assert "operator, admin" in console.get("/people", headers=HTML).text
    assert [row.person for row in stored(database)] == [None]


def test_an_unknown_name_and_a_wrong_password_have_the_same_answer(
    console: FlaskClient, ada: str
) -> None:
    # When logins fail for different reasons
    answers = [
        log_in(console, name, password)
        for name, password in (("ada", "wrong"), ("eve", "wrong"), ("eve", ada))
    ]

    # Then nothing distinguishes them
    assert {answer.status_code for answer in answers} == {401}
    texts = {
        answer.text.replace(f'value="{name}"', "")
        for answer, name in zip(answers, ("ada", "eve", "eve"), strict=True)
    }
    assert len(texts) == 1


def test_failed_logins_of_a_name_are_limited(
    no_refill: None, console: FlaskClient, ada: str
) -> None:
    # Given ten failed logins from different addresses
    for n in range(10):
        console.environ_base["REMOTE_ADDR"] = f"203.0.113.{n}"
        assert log_in(console, "ada", "wrong").status_code == 401

    # When the right password is entered
    response = log_in(console, "ada", ada)

    # Then it is refused for a while, with the form and without it
    assert (response.status_code, response.headers["Retry-After"]) == (429, "60")
    assert console.get("/parked/groups", auth=("ada", ada)).status_code == 429
    # And the login for emergencies is not blocked
    assert console.get("/parked/inventory/plan", auth=("operator", PASSWORD)).status_code == 200


def test_failed_logins_from_an_address_are_limited(
    no_refill: None, console: FlaskClient, database: DatabaseSettings
) -> None:
    # Given thirty failed logins from one IPv6 network
    for n in range(30):
        console.environ_base["REMOTE_ADDR"] = f"2001:db8::{n:x}"
        assert log_in(console, f"name-{n}", "wrong").status_code == 401

    # When the login for emergencies is tried from there, and from elsewhere
    there = console.get("/parked/inventory/plan", auth=("operator", PASSWORD))
    console.environ_base["REMOTE_ADDR"] = "2001:db8:0:1::1"
    elsewhere = console.get("/parked/inventory/plan", auth=("operator", PASSWORD))

    # Then only the network is blocked
    assert (there.status_code, elsewhere.status_code) == (429, 200)


def test_a_login_form_of_another_site_is_rejected(console: FlaskClient, ada: str) -> None:
    # Given a form without the cookie of the login page
    form = hidden(console.get("/login"))
    console.delete_cookie("orders_console")

    # When it is sent
    response = console.post("/login", data=form | {"name": "ada", "password": ada})

    # Then nobody is logged in
    assert response.status_code == 403
    assert console.get_cookie(COOKIE) is None
