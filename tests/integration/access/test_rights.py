"""Rights in the web console: what each role may do and read, and what is recorded."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from amqp import Channel
from flask.testing import FlaskClient

from common.kombu_topology import CONSOLE
from console.access import audit, people
from console.access.audit import Line
from console.access.models import Role
from console.databases.service_database import transaction
from console.settings import DatabaseSettings
from testkit.eventually import eventually
from testkit.processes.web_console import hidden, ids, log_in, park, parked_ids

CUSTOMER = {"email": "ada@example.com"}


def lines(database: DatabaseSettings, **criteria: Any) -> list[Line]:
    """Return the audit log without logins, the oldest line first."""
    with transaction(database, CONSOLE) as session:
        found = audit.newest(session, **criteria)
    return [line for line in reversed(found) if line.action != "login"]


def actions(database: DatabaseSettings) -> list[Line]:
    """Return the audit log without pages, whose addresses are recorded as well."""
    return [line for line in lines(database) if not line.revealed]


def post(client: FlaskClient, path: str, **form: str) -> int:
    """Send a form with the token of the client's login, and return the status."""
    html = client.get("/parked/groups").text
    (token,) = set(re.findall(r'name="token" value="(\w+)"', html))
    return client.post(path, data={"token": token, **form}).status_code


def test_a_viewer_reads_messages_with_masked_addresses(
    logged_in: Callable[..., FlaskClient], channel: Channel, database: DatabaseSettings
) -> None:
    # Given a parked message with addresses
    park(channel, "e-1", customer=CUSTOMER, client_ip="203.0.113.7", colour="red")

    # When a viewer reads it
    client = logged_in("vera", Role.VIEWER)
    html = client.get("/parked/inventory/message", query_string={"id": "e-1"}).text

    # Then all but the addresses is shown, and nothing is recorded
    assert "&#34;colour&#34;: &#34;red&#34;" in html
    assert "&#34;email&#34;: &#34;***&#34;" in html
    assert "203.0.113.7" not in html
    assert lines(database) == []


@pytest.mark.parametrize(
    ("path", "right"),
    [
        ("/parked/inventory/redrive", "redrive"),
        ("/parked/inventory/discard", "discard"),
        ("/services/inventory/pause", "pause"),
        ("/services/inventory/resume", "pause"),
        ("/people/vera/disable", "people"),
    ],
)
def test_a_refused_action_names_the_missing_right_and_is_recorded(
    logged_in: Callable[..., FlaskClient],
    channel: Channel,
    database: DatabaseSettings,
    path: str,
    right: str,
) -> None:
    # Given a parked message and a viewer
    park(channel, "e-1")
    client = logged_in("vera", Role.VIEWER)

    # When the viewer acts
    status = post(client, path, id="e-1", reason="a test")
    page = client.post(path, data={"token": hidden(client.get("/parked/groups"))["token"]})

    # Then the page names the right, the message stays, and the attempt is recorded
    assert status == page.status_code == 403
    assert f"the right “{right}”" in page.text
    assert "vera is logged in as viewer" in page.text
    assert eventually(lambda: parked_ids(channel)) == ["e-1"]
    assert {(line.outcome, line.person) for line in lines(database)} == {("refused", "vera")}


def test_an_operator_acts_only_on_their_services(
    logged_in: Callable[..., FlaskClient], channel: Channel, database: DatabaseSettings
) -> None:
    # Given a parked message of the inventory, and an operator of another service
    park(channel, "e-1")
    other, own = logged_in("otto", Role.OPERATOR, "order"), logged_in("ivy", Role.OPERATOR)

    # When both redrive it
    refused = post(other, "/parked/inventory/redrive", id="e-1")
    done = post(own, "/parked/inventory/redrive", id="e-1")

    # Then only the second one may
    assert (refused, done) == (403, 303)
    assert ids(channel, "inventory.queue") == ["e-1"]
    recorded = [(line.person, line.outcome, line.service) for line in lines(database)]
    assert recorded == [
        ("otto", "refused", "inventory"),
        ("ivy", "begun", "inventory"),
        ("ivy", "done", "inventory"),
    ]


def test_an_action_is_recorded_with_its_result(
    logged_in: Callable[..., FlaskClient], channel: Channel, database: DatabaseSettings
) -> None:
    # Given one parked message
    park(channel, "e-1")
    client = logged_in("ivy", Role.OPERATOR)

    # When it is discarded, and a message that is not parked is redriven
    form = hidden(client.get("/parked/inventory/discard", query_string={"id": "e-1"}))
    client.post("/parked/inventory/discard", data=form | {"reason": "by ada@example.com"})
    post(client, "/parked/inventory/redrive", id="e-9")

    # Then each action has two lines with its request, and no address
    begun, done, again, failed = actions(database)
    assert (begun.outcome, begun.detail) == ("begun", "reason: by ***")
    assert (done.action, done.subject, done.outcome) == ("parked.discard", "e-1", "done")
    assert done.detail
    assert "1 discarded" in done.detail
    assert begun.request_id == done.request_id != again.request_id
    assert (failed.outcome, failed.subject) == ("failed", "e-9")
    assert failed.detail == "inventory: not parked by inventory: e-9"
    # And the discarded message names the person
    assert "<small>ivy</small>" in client.get("/parked/groups").text


def test_addresses_that_were_read_are_recorded(
    logged_in: Callable[..., FlaskClient], channel: Channel, database: DatabaseSettings
) -> None:
    # Given a parked message with addresses, and one without
    park(channel, "e-1", customer=CUSTOMER, client_ip="203.0.113.7")
    park(channel, "e-2")
    client = logged_in("ivy", Role.OPERATOR)

    # When an operator reads both
    for event_id in ("e-1", "e-2"):
        html = client.get("/parked/inventory/message", query_string={"id": event_id}).text
        assert ("ada@example.com" in html) is (event_id == "e-1")

    # Then the first one is recorded
    (line,) = lines(database)
    assert (line.action, line.service, line.subject) == ("parked.message", "inventory", "e-1")
    assert line.revealed == "IP addresses: 1, email addresses: 1"
    assert "ada@example.com" not in str(line)


def test_logins_are_recorded_without_unknown_names(
    console: FlaskClient, database: DatabaseSettings
) -> None:
    # Given a person
    with transaction(database, CONSOLE) as session:
        password = people.add(session, "ivy", Role.ADMIN)

    # When logins succeed and fail, one of them with the password as the name
    log_in(console, "ivy", password)
    log_in(console, "ivy", "wrong")
    log_in(console, password, "ivy")

    # Then the log names the person, and not the password
    with transaction(database, CONSOLE) as session:
        found = audit.newest(session, action="login")
    recorded = [(line.person, line.outcome) for line in reversed(found)]
    assert recorded == [("ivy", "done"), ("ivy", "failed"), ("unknown", "failed")]


def test_an_administrator_reads_the_log_page_by_page(
    logged_in: Callable[..., FlaskClient], database: DatabaseSettings
) -> None:
    # Given more lines than a page has
    client = logged_in("adam", Role.ADMIN)
    with transaction(database, CONSOLE) as session:
        for n in range(120):
            entry = audit.Entry(
                source=audit.Source.ORDERCTL,
                person="bob",
                action="stock.count",
                subject=f"SKU-{n:03}",
                outcome=audit.Outcome.DONE,
            )
            audit.write(session, entry)
            # In this order, although all have the time of their transaction.
            session.flush()

    # When the pages are read
    first = client.get("/audit", query_string={"person": "bob"}).text
    (link,) = re.findall(r'href="(/audit\?[^"]+)"', first)
    second = client.get(link.replace("&amp;", "&")).text

    # Then they contain each line once, the newest first
    shown = re.findall(r"SKU-\d+", first) + re.findall(r"SKU-\d+", second)
    assert shown == [f"SKU-{n:03}" for n in reversed(range(120))]
    assert "Older lines" not in second


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"since": "2026-11-29"}, 200),
        ({"since": "yesterday"}, 400),
        ({"before": "x"}, 400),
        ({"before": "9" * 18}, 503),
        ({"person": "a\0b"}, 400),
    ],
)
def test_the_log_rejects_invalid_criteria(
    logged_in: Callable[..., FlaskClient], query: dict[str, str], status: int
) -> None:
    client = logged_in("adam", Role.ADMIN)

    assert client.get("/audit", query_string=query).status_code == status


@pytest.mark.parametrize("path", ["/audit", "/people"])
def test_only_administrators_see_people_and_the_log(
    logged_in: Callable[..., FlaskClient], path: str
) -> None:
    operator, admin = logged_in("ivy", Role.OPERATOR), logged_in("adam", Role.ADMIN)

    assert operator.get(path).status_code == 403
    assert path not in operator.get("/parked/groups").text
    assert admin.get(path).status_code == 200


def test_an_administrator_disables_others(logged_in: Callable[..., FlaskClient]) -> None:
    # Given two people
    viewer, admin = logged_in("vera", Role.VIEWER), logged_in("adam", Role.ADMIN)

    # When the administrator disables both
    own, other = post(admin, "/people/adam/disable"), post(admin, "/people/vera/disable")

    # Then only the other one is disabled
    assert (other, own) == (303, 400)
    assert viewer.get("/parked/groups").status_code == 401
    assert "vera: disabled" in admin.get("/people").text
