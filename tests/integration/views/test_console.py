"""The operators' web page on a real broker and real databases, with its own few rights."""

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from amqp import Channel, Message
from click.testing import CliRunner
from flask.testing import FlaskClient
from sqlalchemy import create_engine, insert, pool, text
from werkzeug.test import TestResponse

from analytics_worker.models import MinuteRow, PositionRow, SkippedRow, SkuMinuteRow
from common.kombu_topology import ANALYTICS, CONSUMERS, ORDER
from console.actions.stock_import import import_pieces
from console.databases.service_database import transaction
from console.orderctl import main
from console.settings import ConsoleSettings, DatabaseSettings, load_operator
from console.web.app import create_app
from eventbus.consumer.cause import Cause, Verdict
from eventbus.consumer.failure import Failure
from eventbus.outbox.table import outbox
from inventory_worker.movements import Note
from order_app.storage.models import LineRow, OrderRow
from testkit.eventually import eventually
from testkit.servers.infrastructure import Infrastructure
from testkit.servers.vhosts import Vhost

PASSWORD = "a password of the tests"

#: What a stranger may have written into a reason.
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>"


def get(page: FlaskClient, path: str, **query: str) -> TestResponse:
    return page.get(path, query_string=query, auth=("operator", PASSWORD))


def orderctl(*arguments: str) -> None:
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output


@pytest.fixture
def installation(
    operator_env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Callable[[], DatabaseSettings]:
    """A broker that is as the code says; databases, too, when they are asked for."""
    for name, value in operator_env.items():
        monkeypatch.setenv(name, value)
    orderctl("topology", "apply")

    def databases() -> DatabaseSettings:
        orderctl("database", "apply")
        return load_operator(DatabaseSettings)

    return databases


@pytest.fixture
def console_settings(
    servers: Infrastructure, vhost: Vhost, operator_env: dict[str, str], installation: object
) -> dict[str, Any]:
    """What the page is told: its own users, and no other's password."""
    del installation  # it must be there
    return {
        "broker_admin_url": vhost.management_url,
        "broker_port": vhost.amqp_port,
        "broker_vhost": vhost.name,
        "broker_ca_file": vhost.ca_file,
        "broker_admin_user": "console",
        "broker_admin_password": secret(servers, "console.broker"),
        "database_port": servers.postgres_port,
        "database_ca_file": servers.ca_file,
        "database_suffix": operator_env["DATABASE_SUFFIX"],
        "console_database_password": secret(servers, "console.database"),
        "console_password": PASSWORD,
    }


@pytest.fixture
def page(console_settings: dict[str, Any]) -> FlaskClient:
    """A client of the page."""
    return create_app(ConsoleSettings(**console_settings)).test_client()


@pytest.fixture
def channel(vhost: Vhost, installation: object) -> Iterator[Channel]:
    """An AMQP channel of the administrator's."""
    del installation  # it must be there
    with vhost.connect(confirm_publish=True) as connection:
        yield connection.channel()


def secret(servers: Infrastructure, name: str) -> str:
    return (servers.secrets_dir / name).read_text().strip()


def park(channel: Channel, event_id: str, reason: str = "no way", **event: Any) -> None:
    """Park a message for the inventory, as the consumer runtime does."""
    failure = Failure.of(
        Cause(Verdict.RETRY, "ValueError", reason), service="inventory", release="r1", headers={}
    )
    headers = {"task": "order.created", "id": event_id, "retries": 5} | failure.to_headers()
    body = json.dumps([[], {"event": {"subject": "an-order"} | event}, {}]).encode()
    message = Message(body, application_headers=headers, message_id=event_id, type="order.created")
    channel.basic_publish(message, exchange="inventory.retry", routing_key="parked")


def redrive(page: FlaskClient, service: str, **form: str) -> TestResponse:
    """Press the button on the page that asks for confirmation."""
    return press(page, f"/parked/{service}/redrive", **form)


def discard(page: FlaskClient, service: str, event_id: str) -> TestResponse:
    """Press the button on the page that shows the message for the last time."""
    return press(page, f"/parked/{service}/discard", id=event_id)


def press(page: FlaskClient, path: str, **form: str) -> TestResponse:
    """Send the form that a page asks for confirmation with."""
    confirmation = get(page, path, **form)
    fields = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', confirmation.text))
    return page.post(
        path,
        data=fields,
        auth=("operator", PASSWORD),
        headers={"Origin": "http://localhost"},
    )


def ids(channel: Channel, queue: str) -> list[str]:
    found = []
    while (message := channel.basic_get(queue, no_ack=True)) is not None:
        found.append(message.headers["id"])
    return found


def cells(html: str, service: str) -> dict[str, str]:
    """Return a service's row of the overview, by the columns' names."""
    (row,) = re.findall(rf'scope="row">{service}</th>(.*?)</tr>', html, re.DOTALL)
    found = re.findall(r'data-label="([^"]+)">(.*?)</td>', row, re.DOTALL)
    return {name: re.sub(r"<[^>]+>", "", value).strip() for name, value in found}


# --- Overview -----------------------------------------------------------------------------------


def test_a_broker_that_is_well_but_for_its_consumers_is_told(page: FlaskClient) -> None:
    text = get(page, "/overview").text

    assert "<h1>Problems found</h1>" in text
    for service in CONSUMERS:
        assert f"<code>{service.queue}</code> has no consumer" in text
        row = eventually(lambda s=service: _depth(page, s.name))
        assert (row["queued"], row["consumers"], row["parked"]) == ("0", "0", "0")
    # It may not ask who may do what, and need not.
    assert "rejects" not in text


def _depth(page: FlaskClient, service: str) -> dict[str, str]:
    return cells(get(page, "/overview").text, service)


def test_what_is_missing_and_what_drifts_is_named(page: FlaskClient, vhost: Vhost) -> None:
    # given
    vhost.request("DELETE", f"/queues/{vhost.name}/order.dlq")
    vhost.request(
        "POST",
        f"/bindings/{vhost.name}/e/orders.topic/q/inventory.queue",
        json={"routing_key": "a.stranger"},
    )

    # when
    text = get(page, "/overview").text

    # then
    assert "<strong>missing queue</strong> <code>order.dlq</code>" in text
    assert "orders.topic -[a.stranger]-&gt; inventory.queue: not in the code" in text
    assert cells(text, "order")["parked"] == "\N{EN DASH}"


def test_what_is_parked_is_counted(page: FlaskClient, channel: Channel) -> None:
    park(channel, "e-1")
    park(channel, "e-2")

    def counted() -> None:
        # The broker's figures are some seconds old.
        assert _depth(page, "inventory")["parked"] == "2"

    eventually(counted)


def test_unsent_events_and_pending_orders_are_counted(
    page: FlaskClient, installation: Callable[[], DatabaseSettings]
) -> None:
    # given
    place(installation())

    # when
    html = get(page, "/overview").text

    # then
    row = cells(html, "order")
    assert row["unsent events"] == "1"
    assert re.fullmatch(r"\d+ min( \d+ s)?", row["oldest unsent"])
    assert cells(html, "inventory")["unsent events"] == "0"
    assert re.search(r"<dt>PENDING</dt><dd>1</dd>", html)
    assert re.search(r"<dt>oldest PENDING</dt><dd>\d+ min( \d+ s)?</dd>", html)
    assert "The database" not in html


def place(settings: DatabaseSettings) -> UUID:
    """Store an order that was placed 100 seconds ago, and its event, which no relay has sent."""
    at, order_id = datetime.now(UTC) - timedelta(seconds=100), uuid4()
    event = {"time": at.isoformat(), "traceparent": None}
    row = {"event_id": uuid4(), "type": "order.created", "subject": order_id, "created_at": at}
    with transaction(settings, ORDER) as session:
        session.add(
            OrderRow(
                id=order_id,
                customer_email="ada@example.com",
                currency="EUR",
                status="PENDING",
                total=1000,
                created_at=at,
                deadline_at=at + timedelta(seconds=900),
                sequence=1,
                lines=[LineRow(position=1, sku="TEA", quantity=2, unit_price=500)],
            )
        )
        session.execute(insert(outbox), row | {"event": json.dumps(event)})
    return order_id


def test_the_page_comes_while_the_broker_is_down(
    servers: Infrastructure, page: FlaskClient
) -> None:
    # given
    servers.stop_broker()
    try:
        # when
        overview, parked = get(page, "/overview"), get(page, "/parked")
        pressed = redrive(page, "inventory")
        told = get(page, "/parked")
    finally:
        servers.start_broker()

    # then
    assert (overview.status_code, parked.status_code, pressed.status_code) == (200, 200, 303)
    assert "<strong>RabbitMQ is unavailable.</strong> the broker at https://" in overview.text
    assert cells(overview.text, "order")["queued"] == "\N{EN DASH}"
    assert parked.text.count(
        "<strong>This parking lot is unavailable.</strong> the broker at"
    ) == len(CONSUMERS)
    assert 'class="note wrong" role="status">inventory: the broker at' in told.text


def test_a_prometheus_that_is_none_is_told(console_settings: dict[str, Any]) -> None:
    # given
    silent = console_settings | {"prometheus_url": "http://127.0.0.1:9"}

    # when
    html = get(create_app(ConsoleSettings(**silent)).test_client(), "/overview").text

    # then
    assert "<strong>Prometheus is unavailable.</strong> Prometheus at http://127.0.0.1:9" in html
    assert "there are no rates" in html


# --- Parked -------------------------------------------------------------------------------------


def test_what_is_parked_is_listed_and_what_is_not_is_said_to_be_normal(
    page: FlaskClient, channel: Channel
) -> None:
    # given
    assert get(page, "/parked").text.count("No messages are parked. This is normal.") == len(
        CONSUMERS
    )
    park(channel, "e-1", subject="0198a7c1-0000-7000-8000-000000000001")

    # when
    html = get(page, "/parked").text

    # then
    assert html.count("No messages are parked.") == len(CONSUMERS) - 1
    assert "<strong>ValueError</strong>: no way" in html
    assert 'href="/orders?id=0198a7c1-0000-7000-8000-000000000001"' in html
    assert "1 parked." in html


def test_what_a_stranger_has_written_is_text_on_every_page(
    page: FlaskClient, channel: Channel
) -> None:
    # given
    hostile_id = f'"{HOSTILE}'
    park(channel, hostile_id, HOSTILE, subject=HOSTILE, customer=HOSTILE)

    # when
    pages = [
        get(page, "/parked").text,
        get(page, "/parked/inventory/message", id=hostile_id).text,
        get(page, "/parked/inventory/redrive", id=hostile_id).text,
        get(page, "/parked/inventory/discard", id=hostile_id).text,
        get(page, "/orders", id=HOSTILE).text,
    ]

    # then
    for html in pages:
        assert "&lt;script&gt;alert(1)" in html
        assert "<script>alert" not in html
        assert "<img" not in html


def test_one_message_is_shown_with_all_that_it_carries_and_stays(
    page: FlaskClient, channel: Channel
) -> None:
    # given
    event_ids = [f"e-{n}" for n in range(50)]
    for event_id in event_ids:
        park(channel, event_id, colour=event_id)

    # when
    html = get(page, "/parked/inventory/message", id="e-2").text
    unknown = get(page, "/parked/inventory/message", id="e-99")

    # then
    assert "&#34;colour&#34;: &#34;e-2&#34;" in html
    assert "x-failure-exception" in html
    assert unknown.status_code == 503
    assert "not parked by inventory: e-99" in unknown.text
    assert eventually(lambda: some(ids(channel, "inventory.dlq"))) == event_ids


def test_a_message_that_is_nothing_known_is_listed_too(page: FlaskClient, channel: Channel) -> None:
    message = Message(b"\xff not JSON")
    channel.basic_publish(message, exchange="inventory.retry", routing_key="parked")

    def listed() -> None:
        html = get(page, "/parked").text
        assert "unknown" in html
        # A name of its own, by which it can be shown, redriven and discarded.
        assert "id=unnamed-" in html

    eventually(listed)


def test_one_message_is_redriven_and_the_page_says_so(page: FlaskClient, channel: Channel) -> None:
    # given
    for event_id in ("e-1", "e-2"):
        park(channel, event_id)

    # when
    pressed = redrive(page, "inventory", id="e-2")

    # then
    assert (pressed.status_code, pressed.location) == (303, "/parked")
    assert "inventory: 1 redriven to inventory.queue" in get(page, "/parked").text
    assert "redriven" not in get(page, "/parked").text
    assert ids(channel, "inventory.queue") == ["e-2"]
    assert eventually(lambda: some(ids(channel, "inventory.dlq"))) == ["e-1"]


def test_everything_is_redriven(page: FlaskClient, channel: Channel) -> None:
    # given
    for event_id in ("e-1", "e-2"):
        park(channel, event_id)

    # when
    redrive(page, "inventory")

    # then
    assert "inventory: 2 redriven to inventory.queue" in get(page, "/parked").text
    assert ids(channel, "inventory.queue") == ["e-1", "e-2"]


def test_what_cannot_be_redriven_is_told(page: FlaskClient, channel: Channel) -> None:
    # given
    old = (datetime.now(UTC) - timedelta(days=15)).isoformat()
    park(channel, "e-1", time=old)

    # when
    redrive(page, "inventory")

    # then
    assert "1 left parked, older than PARKED_REDRIVE_DAYS" in get(page, "/parked").text
    assert eventually(lambda: some(ids(channel, "inventory.dlq"))) == ["e-1"]


@pytest.mark.parametrize("token", [{}, {"token": "x"}], ids=["no token", "another token"])
def test_a_forged_redrive_moves_nothing(
    page: FlaskClient, channel: Channel, token: dict[str, str]
) -> None:
    # given
    park(channel, "e-1")

    # when
    form = {"every": "yes"} | token
    answer = page.post("/parked/inventory/redrive", data=form, auth=("operator", PASSWORD))
    asked = get(page, "/parked/inventory/redrive")

    # then
    assert answer.status_code == 403
    assert asked.status_code == 200
    assert ids(channel, "inventory.queue") == []
    assert ids(channel, "inventory.dlq") == ["e-1"]


def test_who_redrives_what_is_in_the_log(
    page: FlaskClient, channel: Channel, caplog: pytest.LogCaptureFixture
) -> None:
    park(channel, "e-1")

    with caplog.at_level("INFO"):
        redrive(page, "inventory", id="e-1")

    (record,) = [r for r in caplog.records if r.message == "redrive requested"]
    assert vars(record)["service"] == "inventory"
    assert vars(record)["event_id"] == "e-1"
    assert vars(record)["result"] == "1 redriven to inventory.queue"


def test_one_message_is_discarded_after_it_was_shown_whole(
    page: FlaskClient, channel: Channel
) -> None:
    # given
    for event_id in ("e-1", "e-2", "e-3"):
        park(channel, event_id, colour=event_id)

    # when
    looked = get(page, "/parked/inventory/message", id="e-2").text
    asked = get(page, "/parked/inventory/discard", id="e-2").text
    pressed = discard(page, "inventory", "e-2")

    # then the page leads from the message to the question, which names the event and shows it
    assert 'href="/parked/inventory/discard?id=e-2"' in looked
    assert "Discard order.created of inventory permanently?" in asked
    assert "The message of event <code>e-2</code>" in asked
    assert "&#34;colour&#34;: &#34;e-2&#34;" in asked
    # And the message is gone, and no other
    assert (pressed.status_code, pressed.location) == (303, "/parked")
    assert "inventory: 1 deleted permanently, of event e-2" in get(page, "/parked").text
    assert ids(channel, "inventory.queue") == []
    assert eventually(lambda: some(ids(channel, "inventory.dlq"))) == ["e-1", "e-3"]


def test_what_is_not_parked_any_more_cannot_be_discarded(
    page: FlaskClient, channel: Channel
) -> None:
    # given a question that was asked before somebody else has redriven it
    park(channel, "e-1")
    park(channel, "e-2")
    redrive(page, "inventory", id="e-1")
    get(page, "/parked")
    token = page.application.jinja_env.globals["token"]

    # when
    form = {"token": token, "id": "e-1"}
    page.post("/parked/inventory/discard", data=form, auth=("operator", PASSWORD))

    # then
    assert "inventory: not parked by inventory: e-1" in get(page, "/parked").text
    assert get(page, "/parked/inventory/discard", id="e-1").status_code == 503
    assert ids(channel, "inventory.queue") == ["e-1"]
    assert eventually(lambda: some(ids(channel, "inventory.dlq"))) == ["e-2"]


@pytest.mark.parametrize("token", [{}, {"token": "x"}], ids=["no token", "another token"])
def test_a_forged_discard_deletes_nothing(
    page: FlaskClient, channel: Channel, token: dict[str, str]
) -> None:
    # given
    park(channel, "e-1")

    # when
    form = {"id": "e-1"} | token
    answer = page.post("/parked/inventory/discard", data=form, auth=("operator", PASSWORD))
    asked = get(page, "/parked/inventory/discard", id="e-1")

    # then
    assert answer.status_code == 403
    assert asked.status_code == 200
    assert eventually(lambda: some(ids(channel, "inventory.dlq"))) == ["e-1"]


@pytest.mark.parametrize("action", ["redrive", "discard"])
def test_who_does_not_know_the_password_changes_nothing_even_with_the_token(
    page: FlaskClient, channel: Channel, action: str
) -> None:
    # given
    park(channel, "e-1")
    token = page.application.jinja_env.globals["token"]

    # when
    form = {"id": "e-1", "token": token}
    answer = page.post(f"/parked/inventory/{action}", data=form, auth=("operator", "wrong"))

    # then
    assert answer.status_code == 401
    assert ids(channel, "inventory.queue") == []
    assert eventually(lambda: some(ids(channel, "inventory.dlq"))) == ["e-1"]


def test_what_was_discarded_is_in_the_log(
    page: FlaskClient, channel: Channel, caplog: pytest.LogCaptureFixture
) -> None:
    park(channel, "e-1")

    with caplog.at_level("INFO"):
        discard(page, "inventory", "e-1")

    (record,) = [r for r in caplog.records if r.message == "discard requested"]
    assert vars(record)["service"] == "inventory"
    assert vars(record)["event_id"] == "e-1"
    assert vars(record)["result"] == "1 deleted permanently, of event e-1"


# --- Order, stock, analytics --------------------------------------------------------------------


def test_an_order_is_shown_with_its_events(
    page: FlaskClient, installation: Callable[[], DatabaseSettings]
) -> None:
    # given
    order_id = place(installation())

    # when
    html = get(page, "/orders", id=str(order_id)).text
    unknown = get(page, "/orders", id=str(uuid4()))

    # then
    assert 'class="badge pending">PENDING' in html
    assert "2 \N{MULTIPLICATION SIGN} TEA" in html
    assert "order.created" in html
    assert '<span class="bad">not yet</span>' in html
    assert "No spans of this order" in html
    assert "does not exist" in unknown.text


def test_a_trace_is_drawn(page: FlaskClient, installation: Callable[[], DatabaseSettings]) -> None:
    # given
    settings = installation()
    order_id = place(settings)
    engine = create_engine(settings.service_url("trace"), poolclass=pool.NullPool)
    with engine.begin() as connection:
        for span_id, parent, reason in (("a", None, None), ("b", "a", HOSTILE)):
            connection.execute(
                text(
                    "INSERT INTO spans (trace_id, span_id, parent_id, service, name, kind,"
                    " started_at, microseconds, status, reason, order_id, attributes) VALUES"
                    " (repeat('0', 32), :span, :parent, 'order-worker', 'process', 'server',"
                    " now(), 5000, :status, :reason, :order, '{\"attempt\": 1}')"
                ),
                {
                    "span": span_id,
                    "parent": parent,
                    "status": "error" if reason else "unset",
                    "reason": reason,
                    "order": str(order_id),
                },
            )

    # when
    html = get(page, "/orders", id=str(order_id)).text

    # then
    assert html.count("<rect ") == 2
    assert '<rect class="bad"' in html
    assert 'class="depth-1"' in html
    assert "attempt 1, &lt;script&gt;" in html


def test_stock_is_a_table_and_says_when_it_is_empty(
    page: FlaskClient, installation: Callable[[], DatabaseSettings]
) -> None:
    # given
    settings = installation()
    empty = get(page, "/stock").text
    note = Note(reason="counted", reference="C-1", entered_by="tests")
    import_pieces(settings, {"TEA-1": 12_000, "POT-1": 0}, note)

    # when
    full, some_of_it = get(page, "/stock").text, get(page, "/stock", sku="tea").text

    # then
    assert "Nothing is in stock yet" in empty
    rows = re.findall(r'<th scope="row">(.*?)</th><td class="number">(.*?)</td>', full)
    assert rows == [("POT-1", "0"), ("TEA-1", "12\N{NARROW NO-BREAK SPACE}000")]
    assert "POT-1" not in some_of_it
    assert "No SKU contains" in get(page, "/stock", sku="kettle").text
    one = get(page, "/stock", sku="TEA-1").text
    assert "count 12\N{NARROW NO-BREAK SPACE}000" in one
    assert "C-1" in one


def test_what_was_sold_is_shown_for_the_hour_and_for_the_day(
    page: FlaskClient, installation: Callable[[], DatabaseSettings]
) -> None:
    # given
    settings = installation()
    nothing = get(page, "/analytics").text
    sell(settings)

    # when
    hour, day = get(page, "/analytics").text, get(page, "/analytics", span="day").text

    # then at first nothing is there
    assert "Nothing has been read from the stream yet." in nothing
    assert "No orders were placed in this period." in nothing
    # and then what the hour adds up to, the day's other currency, and what is in no figure
    assert re.findall(r'<h2 id="in-(\w+)">', hour) == ["EUR"]
    assert re.findall(r'<h2 id="in-(\w+)">', day) == ["EUR", "USD"]
    tiles = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", hour))
    assert tiles == {
        "placed": "5",
        "confirmed": "3",
        "shipped": "0",
        "revenue": "EUR 60.00",
        "rejected": "1",
        "rejection rate": "25.0 %",
        "time to decision": "2 s",
    }
    minutes = re.findall(r'data-label="placed">(\d+)</td>', hour)
    assert minutes == ["3", "2"]
    skus = re.findall(r'scope="row">(CUP|TEA)</th>.*?data-label="pieces">(\d+)<', hour, re.DOTALL)
    assert skus == [("TEA", "8"), ("CUP", "1")]
    assert "1 messages of the stream are not in the figures" in hour
    assert "behind:" not in hour


def sell(settings: DatabaseSettings) -> None:
    """Store figures of two minutes of this hour, and one of before; a message is in none."""
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    names = ("placed", "placed_total", "confirmed", "revenue", "rejected", "cancelled", "decided")
    minutes = (
        (timedelta(minutes=1), "EUR", (3, 8000, 2, 4000, 1, 0, 3)),
        (timedelta(minutes=2), "EUR", (2, 3000, 1, 2000, 0, 1, 1)),
        (timedelta(hours=3), "USD", (1, 500, 0, 0, 0, 0, 0)),
    )
    skus = (
        (timedelta(minutes=1), "TEA", (3, 6, 2, 3500)),
        (timedelta(minutes=2), "TEA", (2, 2, 1, 2000)),
        (timedelta(minutes=1), "CUP", (1, 1, 1, 500)),
    )
    with transaction(settings, ANALYTICS) as session:
        for ago, currency, figures in minutes:
            counted = dict(zip(names, figures, strict=True))
            waited = counted["decided"] * 2_000_000
            session.add(
                MinuteRow(
                    minute=now - ago, currency=currency, decision_microseconds=waited, **counted
                )
            )
        for ago, sku, figures in skus:
            counted = dict(zip(("placed", "pieces", "confirmed", "revenue"), figures, strict=True))
            session.add(SkuMinuteRow(minute=now - ago, sku=sku, currency="EUR", **counted))
        session.add(PositionRow(id=1, stream_offset=7, message_id="e-1"))
        session.add(SkippedRow(stream_offset=3, reason="no event", body="{}"))


def test_a_database_that_does_not_answer_is_told_and_names_no_password(
    page: FlaskClient, servers: Infrastructure
) -> None:
    # when there are none, of which the page wants four
    overview, levels = get(page, "/overview"), get(page, "/stock")
    order = get(page, "/orders", id=str(uuid4()))

    # then
    assert overview.text.count("is unavailable.</strong> PostgreSQL: ") == 4
    assert levels.status_code == 503
    assert "PostgreSQL: " in levels.text
    assert "PostgreSQL: " in order.text
    for answer in (overview, levels, order):
        assert secret(servers, "console.database") not in answer.text


def some(found: list[str]) -> list[str]:
    assert found
    return found
