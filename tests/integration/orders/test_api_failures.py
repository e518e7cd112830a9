"""The API under load, without its database and after a bug: clear answers and no internals."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select
from werkzeug.test import TestResponse

from eventbus.database import db
from eventbus.database.db import Sessions, engine_of
from order_app.http import load_shedding
from order_app.storage import models
from testkit.eventually import eventually
from testkit.network.proxy import Proxy
from testkit.processes.api_client import with_key
from testkit.processes.order_requests import UNKNOWN_ORDER, another_api, close, place, problem
from testkit.servers.databases import TestDatabase

#: Limits of a request that waits for the test.
PATIENT = {"database_lock_timeout": 60.0, "database_statement_timeout": 60.0}


def test_unknown_paths_and_methods_are_problems(order_api: FlaskClient) -> None:
    problem(order_api.get("/nothing"), 404)
    problem(order_api.get("/orders/"), 404)
    problem(order_api.get("/orders//timeline"), 404)
    response = order_api.delete("/orders")
    problem(response, 405)
    assert set(response.allow) == {"GET", "HEAD", "OPTIONS", "POST"}


def assert_unavailable(response: TestResponse) -> None:
    document = problem(response, 503)
    assert int(response.headers["Retry-After"]) > 0
    assert document["detail"] == "The service is temporarily unavailable; try again soon."


def test_the_api_answers_503_without_its_database(order_api: FlaskClient) -> None:
    api = another_api(order_api, database_port=1)

    assert_unavailable(place(api))
    assert_unavailable(api.get("/orders"))
    assert_unavailable(api.get(UNKNOWN_ORDER))
    assert api.get("/readyz").status_code == 503
    assert api.get("/healthz").status_code == 200
    assert "orders_database_up 0.0" in api.get("/metrics").text


def test_a_lock_timeout_answers_503(order_api: FlaskClient, sessions: Sessions) -> None:
    location = place(order_api).headers["Location"]
    api = another_api(order_api, database_lock_timeout=0.1)

    with sessions() as session:
        session.execute(select(models.OrderRow).with_for_update())
        assert_unavailable(api.post(f"{location}/cancel"))

    def cancelled() -> None:
        assert api.post(f"{location}/cancel").status_code == 200

    eventually(cancelled)
    close(api)


def test_an_exhausted_pool_answers_503(order_api: FlaskClient) -> None:
    api = another_api(order_api, api_pool_size=1, database_statement_timeout=0.1)

    with api.application.app_context():
        held = models.db.engines["intake"].connect()
        assert_unavailable(place(api))
        held.close()

    eventually(lambda: _assert_placed(api))
    close(api)


def test_the_api_recovers_from_a_database_that_stops_responding(
    order_api: FlaskClient, api_database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given an API whose connections to the database are open
    monkeypatch.setattr(db, "CONNECT_TIMEOUT", 5)
    port = api_database.url.port
    assert port
    proxy = Proxy(port)
    api = another_api(
        order_api,
        database_port=proxy.port,
        database_statement_timeout=2.0,
        api_key_lifetime=300,
    )
    location = eventually(lambda: place(api).headers["Location"])
    assert eventually(lambda: _assert_found(api, location))

    # When the database stops responding, and the connections remain open
    proxy.hold_responses()

    # Then each request is answered
    assert_unavailable(proxy.run(lambda: place(api)))
    assert_unavailable(proxy.run(lambda: api.get(location)))
    assert_unavailable(proxy.run(lambda: api.post(f"{location}/cancel")))
    assert proxy.run(lambda: api.get("/readyz")).status_code == 503
    page = proxy.run(lambda: api.get("/metrics"))
    assert "orders_database_up 0.0" in page.text

    # And all requests succeed when the database responds again
    proxy.release_responses()

    def recovered() -> None:
        assert place(api).status_code == 201
        assert api.get("/readyz").status_code == 200
        assert api.post(f"{location}/cancel").status_code == 200

    eventually(recovered)
    close(api)
    proxy.stop()


def assert_shed(response: TestResponse) -> None:
    assert problem(response, 503)["detail"] == "Too many requests are in progress; try again soon."
    assert response.headers["Retry-After"] == "1"


@contextmanager
def blocked(sessions: Sessions, mode: str, request: Callable[[], object]) -> Iterator[None]:
    """Run the block while a request waits for a lock on the orders."""
    with engine_of(sessions).connect() as connection, ThreadPoolExecutor(1) as pool:
        connection.exec_driver_sql(f"LOCK TABLE orders IN {mode} MODE")
        pool.submit(request)

        def waits() -> None:
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            assert connection.exec_driver_sql(waiting).scalar() == 1

        eventually(waits)
        yield
        connection.rollback()


def test_writes_above_the_limit_are_shed_while_reads_are_served(
    order_api: FlaskClient, sessions: Sessions
) -> None:
    # Given as many writes in progress as the setting allows
    api = another_api(order_api, api_queue_limit=1, **PATIENT)
    with blocked(sessions, "EXCLUSIVE", lambda: place(api)):
        # Then another write is rejected, and all other requests are served
        assert_shed(place(api))
        assert api.get("/orders").status_code == 200
        assert api.get("/readyz").status_code == 200
        assert api.get("/metrics").status_code == 200

    # And writes are accepted again when the first has finished
    eventually(lambda: _assert_placed(api))
    close(api)


def test_reads_above_the_limit_are_shed_while_writes_are_served(
    order_api: FlaskClient, sessions: Sessions
) -> None:
    # Given as many reads in progress as the setting allows
    api = another_api(order_api, api_read_limit=1, **PATIENT)
    with blocked(sessions, "ACCESS EXCLUSIVE", lambda: api.get("/orders")):
        # Then another read is rejected, and a write is not
        assert_shed(api.get("/orders"))
        assert place(api, {}).status_code == 422
        assert api.get("/readyz").status_code == 200
    close(api)


def test_probes_that_wait_for_the_database_leave_threads_to_others(
    order_api: FlaskClient, sessions: Sessions
) -> None:
    # Given as many probes in progress as are accepted
    api = another_api(order_api, api_pool_size=10, **PATIENT)
    probes = [with_key(api.application, "") for _ in range(load_shedding._PROBES)]
    with (
        engine_of(sessions).connect() as connection,
        ThreadPoolExecutor(len(probes)) as pool,
    ):
        connection.exec_driver_sql("LOCK TABLE relay_state IN ACCESS EXCLUSIVE MODE")
        waiting = [pool.submit(probe.get, "/readyz") for probe in probes]

        def all_wait() -> None:
            blocked = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            assert connection.exec_driver_sql(blocked).scalar() == len(probes)

        eventually(all_wait)

        # Then the next one is rejected, and all other requests are served
        assert_shed(api.get("/readyz"))
        assert_shed(api.get("/metrics"))
        assert api.get("/healthz").status_code == 200
        assert api.get("/orders").status_code == 200
        connection.rollback()

    # And the probes are answered
    assert {probe.result().status_code for probe in waiting} == {200}
    close(api)


def test_each_request_in_progress_has_a_thread(order_api: FlaskClient) -> None:
    settings = order_api.application.extensions["order_settings"]
    limits = settings.api_queue_limit + settings.api_read_limit

    others = load_shedding._PROBES + load_shedding._REJECTIONS
    assert load_shedding.threads(settings) > limits + others


def _assert_found(api: FlaskClient, location: str) -> bool:
    assert api.get(location).status_code == 200
    return True


def _assert_placed(api: FlaskClient) -> None:
    assert place(api).status_code == 201


def test_answered_requests_do_not_count_towards_the_limit(order_api: FlaskClient) -> None:
    # Given an API that allows one request at a time
    api = another_api(order_api, api_queue_limit=1, api_read_limit=1)
    keyless = api.application.test_client()

    # When valid and invalid requests follow each other
    for _ in range(3):
        answers = [
            place(api),
            place(api, {}),
            api.get(UNKNOWN_ORDER),
            api.get("/no"),
            place(keyless),
        ]

        # Then no request is shed
        assert [answer.status_code for answer in answers] == [201, 422, 404, 404, 401]
    close(api)


def test_a_bug_shows_no_internals(
    order_api: FlaskClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("secret")

    monkeypatch.setattr("order_app.use_cases.get", broken)

    response = order_api.get(UNKNOWN_ORDER)

    problem(response, 500)
    assert "secret" not in response.text
    assert "secret" in caplog.text
