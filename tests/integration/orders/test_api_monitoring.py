"""What the API reports about itself: traces, log lines, readiness, metrics and its description."""

import json
import logging
import re

import pytest
from flask.testing import FlaskClient
from sqlalchemy import delete, func, insert, select

from eventbus.database.db import Sessions, transaction
from eventbus.outbox.table import outbox, relay_state
from eventbus.settings.base import Settings
from eventbus.telemetry import tracing
from testkit.processes.order_requests import UNKNOWN_ORDER, another_api, place

TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE}-b7ad6b7169203331-01"


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
def test_an_invalid_traceparent_starts_a_new_trace(order_api: FlaskClient, header: str) -> None:
    order_id = place(order_api, traceparent=header).get_json()["id"]

    [event] = order_api.get(f"/orders/{order_id}/timeline").get_json()["events"]

    assert len(event["trace_id"]) == 32
    assert event["trace_id"] != TRACE


def test_a_request_is_logged_once_without_its_query(
    order_api: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "order_app.http.access_log"):
        order_api.get("/orders?email=ann@example.com", headers={"traceparent": TRACEPARENT})

    [line] = [record for record in caplog.records if record.name == "order_app.http.access_log"]
    fields = line.__dict__
    assert (fields["method"], fields["path"], fields["status"]) == ("GET", "/orders", 200)
    assert fields["trace_id"] == TRACE
    assert "ann@" not in str(fields)


@pytest.mark.parametrize("path", ["/orders/ann@example.com", "/ann%40example.com"])
def test_an_address_in_a_path_is_masked_in_the_log(
    order_api: FlaskClient, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    with caplog.at_level(logging.INFO, "order_app.http.access_log"):
        order_api.get(path)

    [line] = [record for record in caplog.records if record.name == "order_app.http.access_log"]
    fields = line.__dict__
    assert fields["path"] == "***"
    assert fields.get("order_id") in (None, "***")
    assert "example.com" not in str(fields)


@pytest.mark.parametrize(("per_second", "flag"), [(20, "01"), (0, "00")])
@pytest.mark.parametrize("client_flag", ["01", "00"])
def test_the_trace_rate_overrides_the_sampled_flag_of_the_client(
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


def test_readiness_reports_the_relay_and_the_broker(
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


def test_metrics_count_requests_and_pending_work(order_api: FlaskClient) -> None:
    place(order_api)
    order_api.get(UNKNOWN_ORDER)
    order_api.open("/orders", method="BREW")

    page = order_api.get("/metrics").text

    count = "orders_http_request_seconds_count"
    assert f'{count}{{method="POST",route="/orders",status="201"}} 1.0' in page
    assert f'{count}{{method="GET",route="/orders/<order_id>",status="404"}} 1.0' in page
    assert f'{count}{{method="other",route="none",status="405"}} 1.0' in page
    for gauge in ("orders_outbox_unsent", "orders_pending", "orders_database_up"):
        assert f"\n{gauge} 1.0" in page
    assert "\norders_outbox_unroutable 0.0" in page


def test_the_api_description_needs_no_other_host(order_api: FlaskClient) -> None:
    document = order_api.get("/openapi.json").get_json()
    page = order_api.get("/docs").text

    assert {"/orders", "/orders/{order_id}", "/orders/{order_id}/cancel"} <= set(document["paths"])
    assert "EUR" in document["components"]["schemas"]["NewOrder"]["properties"]["currency"]["enum"]
    assert "http" not in page
    for path in re.findall('(?:src|href)="([^"]+)"', page):
        response = order_api.get(path)
        assert response.status_code == 200
        response.close()
