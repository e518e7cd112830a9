"""A read-only database is an outage, which the API reports and recovers from."""

from collections.abc import Callable

import pytest
from flask.testing import FlaskClient
from sqlalchemy import create_engine, pool, text
from sqlalchemy.exc import DBAPIError

from eventbus.database import outages
from eventbus.database.db import Sessions, transaction
from order_app.storage import models
from testkit.processes.order_requests import place, problem
from testkit.servers.databases import TestDatabase

Switch = Callable[[str], None]


@pytest.fixture
def api(order_api: FlaskClient) -> FlaskClient:
    """An API that has accepted an order."""
    assert place(order_api).status_code == 201
    return order_api


@pytest.fixture
def read_only(api: FlaskClient, api_database: TestDatabase) -> Switch:
    """Makes new sessions of the server read-only, or writable again."""
    del api  # It must have connected.
    url = api_database.url
    server = create_engine(
        url.set(database="postgres"), poolclass=pool.NullPool, isolation_level="AUTOCOMMIT"
    )

    def switch(state: str) -> None:
        with server.connect() as connection:
            connection.execute(
                text(f"ALTER DATABASE {url.database} SET default_transaction_read_only = {state}")
            )
            if state == "on":
                sessions = f"FROM pg_stat_activity WHERE datname = '{url.database}'"
                connection.execute(text(f"SELECT pg_terminate_backend(pid, 5000) {sessions}"))

    return switch


def test_orders_are_rejected_while_the_database_is_read_only(
    api: FlaskClient, read_only: Switch
) -> None:
    read_only("on")

    for _ in range(3):
        response = place(api)
        detail = problem(response, 503)["detail"]
        assert detail == "The service is temporarily unavailable; try again soon."
        assert int(response.headers["Retry-After"]) > 0
    assert api.get("/orders").status_code == 200


def test_readiness_reports_a_read_only_database(api: FlaskClient, read_only: Switch) -> None:
    read_only("on")

    unready = api.get("/readyz")

    assert unready.status_code == 503
    assert unready.get_json() == {"status": "unready", "database": "read-only"}
    assert api.get("/healthz").status_code == 200


@pytest.mark.parametrize("action", ["place", "readyz"])
def test_a_connection_to_a_read_only_server_is_replaced(
    api: FlaskClient, read_only: Switch, action: str
) -> None:
    # Given connections to a server that is no longer the primary
    read_only("on")
    assert place(api).status_code == 503
    assert api.get("/readyz").status_code == 503

    # When another server is
    read_only("off")

    # Then the next request finds it
    response = place(api) if action == "place" else api.get("/readyz")
    assert response.status_code == (201 if action == "place" else 200)


def test_reads_are_served_if_the_use_of_a_key_cannot_be_recorded(
    order_api: FlaskClient, read_only: Switch
) -> None:
    with order_api.application.app_context(), models.db.session.begin():
        models.db.session.execute(text("UPDATE api_keys SET last_used_on = NULL"))
    read_only("on")

    assert order_api.get("/orders").status_code == 200


def test_database_errors_are_classified(order_database: Sessions) -> None:
    def reason(statement: str) -> str | None:
        with pytest.raises(DBAPIError) as raised, transaction(order_database) as session:
            session.execute(text(statement))
        return outages.reason(raised.value)

    raising = "DO $$ BEGIN RAISE 'no' USING ERRCODE = '{}'; END $$"
    assert reason(raising.format("53100")) == "the database is out of resources"
    assert reason(raising.format("58030")) == "the database's system has failed"
    assert reason(raising.format("23505")) is None
    assert reason("SELECT 1 / 0") is None
    assert reason("SELECT pg_terminate_backend(pg_backend_pid())") is not None
    assert reason("SET TRANSACTION READ ONLY; INSERT INTO relay_state VALUES (1, now())") == (
        "the database takes no writes"
    )
