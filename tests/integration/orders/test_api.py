"""The orders API over a real database: what it takes, what it refuses, and how it says so."""

import json
import logging
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pytest
from flask.testing import FlaskClient
from sqlalchemy import delete, func, insert, select, update
from werkzeug.test import TestResponse

from common.events import Quantity, StockReserved
from eventbus.consumer.inbox import first_delivery
from eventbus.database import db
from eventbus.database.db import Sessions, transaction
from eventbus.events.envelope import Event
from eventbus.outbox.table import outbox, relay_state
from eventbus.settings.base import Settings
from eventbus.telemetry import tracing
from order_app.app import create_app
from order_app.domain import Reason
from order_app.events import Cause
from order_app.handlers import HANDLERS
from order_app.settings import ApiSettings
from order_app.storage import models
from order_app.use_cases import cancel
from testkit.eventually import eventually
from testkit.processes.api_client import key_of, with_key

TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE}-b7ad6b7169203331-01"
SOME_ID = UUID("3b1e6a2c-58d4-4f0e-8b7a-c92d10f4e6a5")
NOWHERE = f"/orders/{SOME_ID}"


@pytest.fixture
def sessions(order_api: FlaskClient) -> Iterator[Sessions]:
    """Sessions on the database that the API uses."""
    with order_api.application.app_context():
        yield db.sessions(models.db.engine)


def a_line(**changes: Any) -> dict[str, Any]:
    return {"sku": "TEA", "quantity": 2, "unit_price": 1250} | changes


def an_order(**changes: Any) -> dict[str, Any]:
    return {
        "customer": {"email": "ann@example.com"},
        "currency": "EUR",
        "lines": [a_line()],
    } | changes


def place(api: FlaskClient, body: Any = None, **headers: str) -> TestResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return api.post("/orders", json=an_order() if body is None else body, headers=named)


def post(api: FlaskClient, body: bytes, content_type: str = "application/json") -> TestResponse:
    return api.post("/orders", data=body, content_type=content_type)


def problem(response: TestResponse, status: int) -> dict[str, Any]:
    """The problem document of an answer, after a check of its form."""
    assert response.status_code == status, response.text
    assert response.content_type == "application/problem+json"
    document: dict[str, Any] = json.loads(response.data)
    assert set(document) == {"type", "title", "status", "detail", "errors"}
    assert document["status"] == status
    return document


def wrong_fields(response: TestResponse, status: int = 422) -> set[str]:
    return {error["field"] for error in problem(response, status)["errors"]}


# ---- placing


def test_a_placed_order_is_pending_and_can_be_read(order_api: FlaskClient) -> None:
    response = place(order_api)

    assert response.status_code == 201
    order = response.get_json()
    assert response.headers["Location"] == f"/orders/{order['id']}"
    assert order | {"id": "", "created_at": "", "deadline_at": ""} == {
        "id": "",
        "status": "PENDING",
        "reason": None,
        "customer": {"email": "ann@example.com"},
        "currency": "EUR",
        "lines": [{"sku": "TEA", "quantity": 2, "unit_price": 1250}],
        "total": 2500,
        "created_at": "",
        "decided_at": None,
        "shipped_at": None,
        "deadline_at": "",
    }
    assert UUID(order["id"]).version == 7
    read = order_api.get(response.headers["Location"])
    assert (read.status_code, read.get_json()) == (200, order)


def test_an_address_is_normalized(order_api: FlaskClient) -> None:
    response = place(order_api, an_order(customer={"email": "Ann@EXAMPLE.com"}))

    assert response.get_json()["customer"] == {"email": "Ann@example.com"}
    assert len(order_api.get("/orders?email=Ann@Example.COM").get_json()["orders"]) == 1


def test_the_largest_order_is_taken(order_api: FlaskClient) -> None:
    lines = [a_line(sku=f"A{i:063}", quantity=10_000, unit_price=10**12) for i in range(100)]

    response = place(order_api, an_order(lines=lines))

    assert response.status_code == 201
    assert response.get_json()["total"] == 100 * 10_000 * 10**12


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"customer": None}, "customer"),
        ({"customer": "ann@example.com"}, "customer"),
        ({"customer": {}}, "customer.email"),
        ({"customer": {"email": 5}}, "customer.email"),
        ({"customer": {"email": "ann"}}, "customer.email"),
        ({"customer": {"email": "a\x00@example.com"}}, "customer.email"),
        ({"customer": {"email": "\ud800@example.com"}}, "customer.email"),
        ({"customer": {"email": "a" * 60 + "@" + "b." * 100 + "com"}}, "customer.email"),
        ({"customer": {"email": "a@example.com", "name": "Ann"}}, "customer.name"),
        ({"currency": "eur"}, "currency"),
        ({"currency": "XXX"}, "currency"),
        ({"currency": 978}, "currency"),
        ({"lines": []}, "lines"),
        ({"lines": {}}, "lines"),
        ({"lines": [None]}, "lines[0]"),
        ({"lines": [a_line(sku=f"A{i}") for i in range(101)]}, "lines"),
        ({"lines": [a_line(), a_line(sku="B"), a_line(quantity=1)]}, "lines"),
        ({"lines": [a_line(sku="")]}, "lines[0].sku"),
        ({"lines": [a_line(sku="-A")]}, "lines[0].sku"),
        ({"lines": [a_line(sku="A\n")]}, "lines[0].sku"),
        ({"lines": [a_line(sku="A\x00")]}, "lines[0].sku"),
        ({"lines": [a_line(sku="A" * 65)]}, "lines[0].sku"),
        ({"lines": [a_line(sku=1)]}, "lines[0].sku"),
        ({"lines": [a_line(quantity=0)]}, "lines[0].quantity"),
        ({"lines": [a_line(quantity=-1)]}, "lines[0].quantity"),
        ({"lines": [a_line(quantity=10_001)]}, "lines[0].quantity"),
        ({"lines": [a_line(quantity="3")]}, "lines[0].quantity"),
        ({"lines": [a_line(quantity=3.0)]}, "lines[0].quantity"),
        ({"lines": [a_line(quantity=True)]}, "lines[0].quantity"),
        ({"lines": [a_line(quantity=None)]}, "lines[0].quantity"),
        ({"lines": [a_line(), a_line(sku="B", unit_price=-1)]}, "lines[1].unit_price"),
        ({"lines": [a_line(unit_price=10**12 + 1)]}, "lines[0].unit_price"),
        ({"lines": [a_line(unit_price=10**400)]}, "lines[0].unit_price"),
        ({"lines": [a_line(colour="green")]}, "lines[0].colour"),
        ({"note": "quickly"}, "note"),
    ],
)
def test_a_wrong_field_is_named(
    order_api: FlaskClient, changes: dict[str, Any], field: str
) -> None:
    assert wrong_fields(place(order_api, an_order(**changes))) == {field}


def test_a_repeated_sku_is_named_with_its_lines(order_api: FlaskClient) -> None:
    body = an_order(lines=[a_line(), a_line(sku="B"), a_line()])

    [error] = problem(place(order_api, body), 422)["errors"]

    assert error["message"] == "lines[2] has the same SKU as lines[0]"


def test_every_missing_field_is_named(order_api: FlaskClient) -> None:
    assert wrong_fields(place(order_api, {})) == {"customer", "currency", "lines"}


def test_of_thousands_of_wrong_fields_some_are_named(order_api: FlaskClient) -> None:
    body = an_order(**{f"field{i}": 1 for i in range(2_000)})

    assert len(problem(place(order_api, body), 422)["errors"]) == 20


_GOOD = json.dumps(an_order())


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b'{"customer":', 400),
        (b"\xff", 400),
        (_GOOD.encode("utf-16"), 400),
        (b"\xef\xbb\xbf" + _GOOD.encode(), 400),
        (b"[" * 60_000, 400),
        (b'{"lines":' + b"[" * 30_000 + b"]" * 30_000 + b"}", 400),
        (_GOOD.replace("1250", "NaN").encode(), 400),
        (_GOOD.replace("1250", "Infinity").encode(), 400),
        (_GOOD.replace("1250", "9" * 5_000).encode(), 400),
        (b'{"\\ud800": 1}', 400),
        (b"null", 422),
        (b"[]", 422),
        (json.dumps(_GOOD).encode(), 422),
    ],
)
def test_a_body_that_is_no_json_object_is_refused(
    order_api: FlaskClient, body: bytes, status: int
) -> None:
    assert wrong_fields(post(order_api, body), status) == {"body"}


def test_a_field_given_twice_is_refused(order_api: FlaskClient) -> None:
    body = _GOOD.replace('"currency"', '"currency": "USD", "currency"').encode()

    assert wrong_fields(post(order_api, body), 400) == {"currency"}


def test_a_body_beyond_the_limit_is_refused(order_api: FlaskClient) -> None:
    assert post(order_api, _GOOD.encode().ljust(64 * 1024)).status_code == 201
    assert wrong_fields(post(order_api, _GOOD.encode().ljust(64 * 1024 + 1)), 413) == {"body"}


@pytest.mark.parametrize(
    "content_type",
    ["", "text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-16"],
)
def test_another_content_type_is_refused(order_api: FlaskClient, content_type: str) -> None:
    assert wrong_fields(post(order_api, _GOOD.encode(), content_type), 415) == {"Content-Type"}


# ---- idempotency


def test_a_request_sent_again_gets_the_same_order(order_api: FlaskClient) -> None:
    first = place(order_api, Idempotency_Key="k1")
    second = place(order_api, Idempotency_Key="k1")

    assert "Idempotency-Replayed" not in first.headers
    assert second.status_code == 201
    assert second.headers["Idempotency-Replayed"] == "true"
    assert second.headers["Location"] == first.headers["Location"]
    assert second.get_json() == first.get_json()
    assert len(order_api.get("/orders").get_json()["orders"]) == 1


def test_without_a_key_each_request_is_an_order(order_api: FlaskClient) -> None:
    assert place(order_api).get_json()["id"] != place(order_api).get_json()["id"]


def test_a_key_with_another_body_is_refused(order_api: FlaskClient) -> None:
    place(order_api, Idempotency_Key="k1")

    response = place(order_api, an_order(currency="USD"), Idempotency_Key="k1")

    assert wrong_fields(response) == {"Idempotency-Key"}


@pytest.mark.parametrize("key", ["", "a b", "a" * 256, "é", "a\tb"])
def test_a_wrong_key_is_refused(order_api: FlaskClient, key: str) -> None:
    assert wrong_fields(place(order_api, Idempotency_Key=key)) == {"Idempotency-Key"}


def test_the_longest_key_is_taken(order_api: FlaskClient) -> None:
    assert place(order_api, Idempotency_Key="~" * 255).status_code == 201


# ---- reading


def test_an_unknown_order_is_not_found(order_api: FlaskClient) -> None:
    for response in (
        order_api.get(NOWHERE),
        order_api.get(f"{NOWHERE}/timeline"),
        order_api.post(f"{NOWHERE}/cancel"),
    ):
        problem(response, 404)


@pytest.mark.parametrize("order_id", ["x", "%00", "%ff", SOME_ID.hex, f"{{{SOME_ID}}}"])
def test_an_id_that_is_none_is_refused(order_api: FlaskClient, order_id: str) -> None:
    for response in (
        order_api.get(f"/orders/{order_id}"),
        order_api.get(f"/orders/{order_id}/timeline"),
        order_api.post(f"/orders/{order_id}/cancel"),
    ):
        assert wrong_fields(response) == {"order_id"}


def test_pages_follow_each_other_to_the_last(order_api: FlaskClient) -> None:
    placed = [place(order_api).get_json()["id"] for _ in range(5)]

    found, cursor = [], ""
    while cursor is not None:
        page = order_api.get(f"/orders?limit=2{cursor and '&cursor=' + cursor}").get_json()
        found += [order["id"] for order in page["orders"]]
        cursor = page["next_cursor"]

    assert found == placed[::-1]


def test_orders_are_filtered(order_api: FlaskClient) -> None:
    first = place(order_api).get_json()["id"]
    second = place(order_api, an_order(customer={"email": "bob@example.com"})).get_json()["id"]
    order_api.post(f"/orders/{first}/cancel")

    def found(query: str) -> list[str]:
        return [o["id"] for o in order_api.get(f"/orders?{query}").get_json()["orders"]]

    assert found("status=CANCELLED") == [first]
    assert found("status=PENDING") == [second]
    assert found("email=bob@example.com") == [second]
    assert found("email=bob@example.com&status=CANCELLED") == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=", "limit"),
        ("limit=5.0", "limit"),
        ("limit=%205", "limit"),
        ("limit=1_0", "limit"),
        ("limit=9999999999999999999999", "limit"),
        ("limit=1&limit=2", "limit"),
        ("status=pending", "status"),
        ("status=", "status"),
        ("email=ann", "email"),
        ("email=%00", "email"),
        ("cursor=", "cursor"),
        ("cursor=abc", "cursor"),
        ("cursor=" + "_" * 32, "cursor"),
        ("stauts=PENDING", "stauts"),
    ],
)
def test_a_wrong_parameter_is_named(order_api: FlaskClient, query: str, field: str) -> None:
    assert wrong_fields(order_api.get(f"/orders?{query}")) == {field}


# ---- cancelling


def test_a_customer_cancels_and_may_repeat_it(order_api: FlaskClient) -> None:
    location = place(order_api).headers["Location"]

    first = order_api.post(f"{location}/cancel")
    second = order_api.post(f"{location}/cancel")

    assert first.status_code == second.status_code == 200
    assert first.get_json() == second.get_json() == order_api.get(location).get_json()
    order = first.get_json()
    assert (order["status"], order["reason"]) == ("CANCELLED", "customer")
    assert order["decided_at"] is not None


def test_an_order_cancelled_for_another_reason_is_a_conflict(
    order_api: FlaskClient, sessions: Sessions
) -> None:
    location = place(order_api).headers["Location"]
    with transaction(sessions) as session:
        cancel(session, UUID(location[8:]), Reason.OUT_OF_STOCK, cause=Cause())

    assert "out_of_stock" in problem(order_api.post(f"{location}/cancel"), 409)["detail"]


# ---- timeline and trace


def test_the_timeline_tells_what_was_sent_and_handled(
    order_api: FlaskClient, sessions: Sessions
) -> None:
    order_id = place(order_api, traceparent=TRACEPARENT).get_json()["id"]
    with transaction(sessions) as session:
        session.execute(update(outbox).values(unroutable_reason="NO_ROUTE"))
        created = session.scalar(select(outbox.c.event_id))
        reserved = Event(
            source="inventory",
            subject=UUID(order_id),
            sequence=1,
            traceparent=TRACEPARENT,
            causationid=created,
            data=StockReserved(lines=(Quantity(sku="TEA", quantity=2),)),
        )
        first_delivery(session, reserved, attempts=3)
        HANDLERS[StockReserved](session, reserved)

    timeline = order_api.get(f"/orders/{order_id}/timeline").get_json()

    assert timeline["order_id"] == order_id
    sent, answer, confirmed = timeline["events"]
    assert (sent["type"], sent["source"]) == ("order.created", "order")
    assert (sent["handled_by"], sent["unroutable_reason"]) == (["inventory"], "NO_ROUTE")
    assert sent["recorded_at"] is not None
    assert sent["published_at"] is None
    assert (answer["type"], answer["attempts"]) == ("stock.reserved", 3)
    assert answer["causation_id"] == sent["id"]
    assert confirmed["causation_id"] == answer["id"]
    assert {event["trace_id"] for event in timeline["events"]} == {TRACE}


@pytest.mark.parametrize(
    "header",
    [
        "",
        "x",
        TRACEPARENT.upper(),
        "00-" + "0" * 32 + "-b7ad6b7169203331-01",
        "ff" + TRACEPARENT[2:],
    ],
)
def test_a_wrong_traceparent_starts_a_new_trace(order_api: FlaskClient, header: str) -> None:
    order_id = place(order_api, traceparent=header).get_json()["id"]

    [event] = order_api.get(f"/orders/{order_id}/timeline").get_json()["events"]

    assert len(event["trace_id"]) == 32
    assert event["trace_id"] != TRACE


def test_each_request_is_logged_once_without_its_query(
    order_api: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "order_app.http.access_log"):
        order_api.get("/orders?email=ann@example.com", headers={"traceparent": TRACEPARENT})

    [line] = [record for record in caplog.records if record.name == "order_app.http.access_log"]
    fields = line.__dict__
    assert (fields["method"], fields["path"], fields["status"]) == ("GET", "/orders", 200)
    assert fields["trace_id"] == TRACE
    assert "ann@" not in str(fields)


# ---- failures


def test_unknown_paths_and_methods_are_problems(order_api: FlaskClient) -> None:
    problem(order_api.get("/nothing"), 404)
    problem(order_api.get("/orders/"), 404)
    problem(order_api.get("/orders//timeline"), 404)
    response = order_api.delete("/orders")
    problem(response, 405)
    assert set(response.allow) == {"GET", "HEAD", "OPTIONS", "POST"}


def another_api(api: FlaskClient, **changes: Any) -> FlaskClient:
    """Another process of the same API, with other settings."""
    settings: ApiSettings = api.application.extensions["order_settings"]
    app = create_app(settings.model_copy(update=changes))
    return with_key(app, key_of(api))


@pytest.mark.parametrize(("per_second", "flag"), [(20, "01"), (0, "00")])
@pytest.mark.parametrize("client_flag", ["01", "00"])
def test_event_names_a_sampled_trace_within_the_rate_whatever_the_client_wants(
    order_api: FlaskClient, sessions: Sessions, per_second: int, flag: str, client_flag: str
) -> None:
    nowhere = Settings(_env_file=None, otlp_endpoint="http://127.0.0.1:9")
    tracing.start("order-api", nowhere)
    try:
        api = another_api(order_api, traces_per_second=per_second)

        place(api, traceparent=TRACEPARENT[:-2] + client_flag)
    finally:
        tracing.stop()

    with transaction(sessions) as session:
        event = json.loads(session.scalars(select(outbox.c.event)).one())
    assert event["traceparent"].startswith(f"00-{TRACE}-")
    assert event["traceparent"].endswith(flag)


def try_again(response: TestResponse) -> None:
    document = problem(response, 503)
    assert int(response.headers["Retry-After"]) > 0
    assert document["detail"] == "The service is temporarily unavailable; try again soon."


def test_without_its_database_the_api_asks_to_try_again(order_api: FlaskClient) -> None:
    api = another_api(order_api, database_port=1)

    try_again(place(api))
    try_again(api.get("/orders"))
    try_again(api.get(NOWHERE))
    assert api.get("/readyz").status_code == 503
    assert api.get("/healthz").status_code == 200
    assert "orders_database_up 0.0" in api.get("/metrics").text


def test_a_lock_that_is_held_too_long_asks_to_try_again(
    order_api: FlaskClient, sessions: Sessions
) -> None:
    location = place(order_api).headers["Location"]
    api = another_api(order_api, database_lock_timeout=0.1)

    with sessions() as session:
        session.execute(select(models.OrderRow).with_for_update())
        try_again(api.post(f"{location}/cancel"))

    assert api.post(f"{location}/cancel").status_code == 200
    _close(api)


def test_a_pool_without_a_free_connection_asks_to_try_again(order_api: FlaskClient) -> None:
    api = another_api(order_api, api_pool_size=1, database_statement_timeout=0.1)

    with api.application.app_context():
        held = models.db.engines["intake"].connect()
        try_again(place(api))
        held.close()

    assert place(api).status_code == 201
    _close(api)


def assert_full(refused: TestResponse) -> None:
    assert problem(refused, 503)["detail"] == "Too many requests are in progress; try again soon."
    assert refused.headers["Retry-After"] == "1"


@contextmanager
def blocked(sessions: Sessions, mode: str, request: Callable[[], object]) -> Iterator[None]:
    """While a request waits for the database, which locks the orders."""
    with sessions.kw["bind"].connect() as connection, ThreadPoolExecutor(1) as pool:
        connection.exec_driver_sql(f"LOCK TABLE orders IN {mode} MODE")
        pool.submit(request)

        def waits() -> None:
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            assert connection.exec_driver_sql(waiting).scalar() == 1

        eventually(waits)
        yield
        connection.rollback()


def test_a_write_beyond_the_limit_is_refused_while_reads_are_served(
    order_api: FlaskClient, sessions: Sessions
) -> None:
    # given as many writes under way as the setting allows
    api = another_api(order_api, api_queue_limit=1)
    with blocked(sessions, "EXCLUSIVE", lambda: place(api)):
        # then another one is refused, and everything else is served
        assert_full(place(api))
        assert api.get("/orders").status_code == 200
        assert api.get("/readyz").status_code == 200
        assert api.get("/metrics").status_code == 200

    # and so are writes when there is place again
    eventually(lambda: _assert_placed(api))
    _close(api)


def test_a_read_beyond_the_limit_is_refused_while_writes_are_served(
    order_api: FlaskClient, sessions: Sessions
) -> None:
    # given as many reads under way as the setting allows
    api = another_api(order_api, api_read_limit=1)
    with blocked(sessions, "ACCESS EXCLUSIVE", lambda: api.get("/orders")):
        # then another one is refused, and a write is not
        assert_full(api.get("/orders"))
        assert place(api, {}).status_code == 422
        assert api.get("/readyz").status_code == 200
    _close(api)


def _assert_placed(api: FlaskClient) -> None:
    assert place(api).status_code == 201


def test_a_request_that_is_answered_is_not_under_way_any_more(order_api: FlaskClient) -> None:
    # given an API that refuses whoever comes while another request is under way
    api = another_api(order_api, api_queue_limit=1, api_read_limit=1)
    stranger = api.application.test_client()

    # when many come, one after the other, good and bad ones
    for _ in range(3):
        answers = [place(api), place(api, {}), api.get(NOWHERE), api.get("/no"), place(stranger)]

        # then none is refused
        assert [answer.status_code for answer in answers] == [201, 422, 404, 404, 401]
    _close(api)


def test_a_bug_shows_no_internals(
    order_api: FlaskClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("secret")

    monkeypatch.setattr("order_app.use_cases.get", broken)

    response = order_api.get(NOWHERE)

    problem(response, 500)
    assert "secret" not in response.text
    assert "secret" in caplog.text


def _close(api: FlaskClient) -> None:
    with api.application.app_context():
        for engine in models.db.engines.values():
            engine.dispose()


# ---- operation


def test_readiness_tells_of_the_relay_and_the_broker(
    order_api: FlaskClient, sessions: Sessions
) -> None:
    place(order_api)

    silent = order_api.get("/readyz")
    assert silent.status_code == 200
    assert silent.get_json()["broker"] == "unknown"
    assert silent.get_json()["relay"]["status"] == "silent"

    for error, broker in ((None, "reachable"), ("refused", "unreachable")):
        with transaction(sessions) as session:
            session.execute(delete(relay_state))
            session.execute(
                insert(relay_state).values(id=1, passed_at=func.now(), broker_error=error)
            )
        ready = order_api.get("/readyz")
        assert ready.status_code == 200
        assert ready.get_json()["broker"] == broker
        assert ready.get_json()["relay"]["status"] == "running"
        assert ready.get_json()["relay"]["last_pass_seconds"] < 15


def test_metrics_count_requests_and_what_waits(order_api: FlaskClient) -> None:
    place(order_api)
    order_api.get(NOWHERE)
    order_api.open("/orders", method="BREW")

    page = order_api.get("/metrics").text

    count = "orders_http_request_seconds_count"
    assert f'{count}{{method="POST",route="/orders",status="201"}} 1.0' in page
    assert f'{count}{{method="GET",route="/orders/<order_id>",status="404"}} 1.0' in page
    assert f'{count}{{method="other",route="none",status="405"}} 1.0' in page
    for gauge in ("orders_outbox_unsent", "orders_pending", "orders_database_up"):
        assert f"\n{gauge} 1.0" in page
    assert "\norders_outbox_unroutable 0.0" in page


def test_the_description_and_its_page_need_no_other_host(order_api: FlaskClient) -> None:
    document = order_api.get("/openapi.json").get_json()
    page = order_api.get("/docs").text

    assert {"/orders", "/orders/{order_id}", "/orders/{order_id}/cancel"} <= set(document["paths"])
    assert "EUR" in document["components"]["schemas"]["NewOrder"]["properties"]["currency"]["enum"]
    assert "http" not in page
    for path in re.findall('(?:src|href)="([^"]+)"', page):
        response = order_api.get(path)
        assert response.status_code == 200
        response.close()
