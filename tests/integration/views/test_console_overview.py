"""The overview of the web console: the state of the broker, the queues and the databases."""

import re
from collections.abc import Callable
from typing import Any

from amqp import Channel
from flask.testing import FlaskClient

from common.kombu_topology import CONSUMERS
from console.settings import ConsoleSettings, DatabaseSettings
from console.web.app import create_app
from testkit.eventually import eventually
from testkit.processes.web_console import cells, get, park, place, redrive
from testkit.servers.infrastructure import Infrastructure
from testkit.servers.vhosts import Vhost


def test_the_overview_reports_queues_without_consumers(console: FlaskClient) -> None:
    text = get(console, "/overview").text

    assert "<h1>Problems found</h1>" in text
    for service in CONSUMERS:
        assert f"<code>{service.queue}</code> has no consumer" in text
        row = eventually(lambda s=service: _depth(console, s.name))
        assert (row["queued"], row["consumers"], row["parked"]) == ("0", "0", "0")
    # The console may not read permissions, and does not need to.
    assert "rejects" not in text


def _depth(console: FlaskClient, service: str) -> dict[str, str]:
    return cells(get(console, "/overview").text, service)


def test_the_overview_names_missing_queues_and_drift(console: FlaskClient, vhost: Vhost) -> None:
    # Given a missing queue and a foreign binding
    vhost.request("DELETE", f"/queues/{vhost.name}/order.dlq")
    vhost.request(
        "POST",
        f"/bindings/{vhost.name}/e/orders.topic/q/inventory.queue",
        json={"routing_key": "a.stranger"},
    )

    # When the overview is loaded
    text = get(console, "/overview").text

    # Then it names both
    assert "<strong>missing queue</strong> <code>order.dlq</code>" in text
    assert "orders.topic -[a.stranger]-&gt; inventory.queue: not in the code" in text
    assert cells(text, "order")["parked"] == "\N{EN DASH}"


def test_the_overview_counts_parked_messages(console: FlaskClient, channel: Channel) -> None:
    park(channel, "e-1")
    park(channel, "e-2")

    def counted() -> None:
        # The broker updates its figures every few seconds.
        assert _depth(console, "inventory")["parked"] == "2"

    eventually(counted)


def test_the_overview_counts_unsent_events_and_pending_orders(
    console: FlaskClient, installation: Callable[[], DatabaseSettings]
) -> None:
    # Given a pending order whose event is unsent
    place(installation())

    # When the overview is loaded
    html = get(console, "/overview").text

    # Then it counts both and shows their age
    row = cells(html, "order")
    assert row["unsent events"] == "1"
    assert re.fullmatch(r"\d+ min( \d+ s)?", row["oldest unsent"])
    assert cells(html, "inventory")["unsent events"] == "0"
    assert re.search(r"<dt>PENDING</dt><dd>1</dd>", html)
    assert re.search(r"<dt>oldest PENDING</dt><dd>\d+ min( \d+ s)?</dd>", html)
    assert "The database" not in html


def test_the_pages_load_while_the_broker_is_down(
    servers: Infrastructure, console: FlaskClient
) -> None:
    # Given a broker that is down
    servers.stop_broker()
    try:
        # When pages are loaded and a redrive is confirmed
        overview, parked = get(console, "/overview"), get(console, "/parked")
        confirmed = redrive(console, "inventory", id="e-1")
        result = get(console, "/parked")
    finally:
        servers.start_broker()

    # Then each page reports that RabbitMQ is unavailable
    assert (overview.status_code, parked.status_code, confirmed.status_code) == (200, 200, 303)
    assert "<strong>RabbitMQ is unavailable.</strong> the broker at https://" in overview.text
    assert cells(overview.text, "order")["queued"] == "\N{EN DASH}"
    assert parked.text.count(
        "<strong>This parking lot is unavailable.</strong> the broker at"
    ) == len(CONSUMERS)
    assert 'class="note wrong" role="status">inventory: the broker at' in result.text


def test_the_overview_reports_an_unavailable_prometheus(console_settings: dict[str, Any]) -> None:
    # Given a Prometheus address without a server
    unreachable = console_settings | {"prometheus_url": "http://127.0.0.1:9"}

    # When the overview is loaded
    html = get(create_app(ConsoleSettings(**unreachable)).test_client(), "/overview").text

    # Then it reports that Prometheus is unavailable
    assert "<strong>Prometheus is unavailable.</strong> Prometheus at http://127.0.0.1:9" in html
    assert "there are no rates" in html
