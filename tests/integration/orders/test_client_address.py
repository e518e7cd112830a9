"""The client address in `order.created`, which only trusted proxies can set."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select

from eventbus.database import db
from eventbus.outbox.table import outbox
from order_app.storage import models
from testkit.processes.order_requests import an_order, another_api, close

Api = Callable[[int], FlaskClient]


@pytest.fixture
def api(order_api: FlaskClient) -> Iterator[Api]:
    """APIs behind a number of trusted proxies."""
    clients: list[FlaskClient] = []

    def behind(trusted_proxies: int) -> FlaskClient:
        clients.append(another_api(order_api, api_trusted_proxies=trusted_proxies))
        return clients[-1]

    yield behind
    for client in clients:
        close(client)


def recorded_ip(api: FlaskClient, address: str, forwarded_for: str | None = None) -> str | None:
    """Place an order from this address; return the client address in its event."""
    headers = {} if forwarded_for is None else {"X-Forwarded-For": forwarded_for}
    environ = {"REMOTE_ADDR": address}
    placed = api.post("/orders", json=an_order(), headers=headers, environ_overrides=environ)
    assert placed.status_code == 201, placed.text
    with api.application.app_context(), db.sessions(models.db.engine)() as session:
        events = session.scalars(select(outbox.c.event).order_by(outbox.c.id.desc()))
        data: dict[str, Any] = json.loads(events.first() or "")["data"]
    client_ip: str | None = data["client_ip"]
    return client_ip


def test_an_order_records_the_address_of_its_connection(api: Api) -> None:
    assert recorded_ip(api(0), "192.0.2.7") == "192.0.2.7"


def test_x_forwarded_for_is_ignored_without_a_trusted_proxy(api: Api) -> None:
    assert recorded_ip(api(0), "192.0.2.7", "198.51.100.1") == "192.0.2.7"


@pytest.mark.parametrize(
    ("trusted", "forwarded_for", "expected"),
    [
        (1, "198.51.100.1", "198.51.100.1"),
        # The client's own entry is left of the entries that the proxies add.
        (1, "203.0.113.9, 198.51.100.1", "198.51.100.1"),
        (2, "203.0.113.9, 198.51.100.1, 10.0.0.1", "198.51.100.1"),
        # The request did not pass all proxies: only the connection's address is certain.
        (2, "198.51.100.1", "192.0.2.7"),
        (1, None, "192.0.2.7"),
    ],
)
def test_only_the_entries_of_trusted_proxies_count(
    api: Api, trusted: int, forwarded_for: str | None, expected: str
) -> None:
    assert recorded_ip(api(trusted), "192.0.2.7", forwarded_for) == expected


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
    ],
)
def test_an_address_is_recorded_in_its_canonical_form(
    api: Api, address: str, expected: str
) -> None:
    assert recorded_ip(api(0), address) == expected


@pytest.mark.parametrize("forwarded_for", ["unknown", "_hidden", "198.51.100.1:4711", "1.2.3"])
def test_an_invalid_forwarded_address_is_not_recorded(api: Api, forwarded_for: str) -> None:
    assert recorded_ip(api(1), "192.0.2.7", forwarded_for) is None


def test_an_order_over_a_unix_socket_records_no_address(api: Api) -> None:
    assert recorded_ip(api(0), "") is None


def test_metrics_need_a_key_behind_a_trusted_proxy(api: Api) -> None:
    keyless = api(1).application.test_client()
    from_proxy = {"REMOTE_ADDR": "127.0.0.1"}
    for claimed in ("127.0.0.1", "unknown"):
        headers = {"X-Forwarded-For": claimed}
        answer = keyless.get("/metrics", headers=headers, environ_overrides=from_proxy)
        assert answer.status_code == 401


@pytest.mark.parametrize("zone", ["eth0", "<b>" + "x" * 5_000])
def test_the_zone_of_an_address_is_not_recorded(api: Api, zone: str) -> None:
    assert recorded_ip(api(1), "192.0.2.1", forwarded_for=f"fe80::1%{zone}") == "fe80::1"
