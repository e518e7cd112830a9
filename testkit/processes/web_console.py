"""The web console in an operator's browser, and messages and orders for it."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from html import unescape
from types import MappingProxyType
from typing import Any
from uuid import UUID, uuid4

from amqp import Channel, Message
from flask.testing import FlaskClient
from sqlalchemy import insert, update
from werkzeug.test import TestResponse

from common.kombu_topology import ORDER
from console.databases.service_database import transaction
from console.settings import DatabaseSettings
from eventbus.consumer.cause import Cause, Verdict
from eventbus.consumer.failure import Failure
from eventbus.outbox.table import outbox
from order_app.storage.models import LineRow, OrderRow
from testkit.servers.infrastructure import Infrastructure
from testkit.servers.vhosts import Vhost

PASSWORD = "a password of the tests"

_NO_FIELDS: Mapping[str, str] = MappingProxyType({})

#: Markup that an attacker may have written into a reason.
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>"


def settings_of_console(
    servers: Infrastructure, vhost: Vhost, database_suffix: str
) -> dict[str, Any]:
    """Return the settings of a console: its own users, and no other password."""
    return {
        "broker_admin_url": vhost.management_url,
        "broker_port": vhost.amqp_port,
        "broker_vhost": vhost.name,
        "broker_ca_file": vhost.ca_file,
        "broker_admin_user": "console",
        "broker_admin_password": secret(servers, "console.broker"),
        "database_port": servers.postgres_port,
        "database_ca_file": servers.ca_file,
        "database_suffix": database_suffix,
        "console_database_password": secret(servers, "console.database"),
        "console_password": PASSWORD,
    }


def get(console: FlaskClient, path: str, **query: str) -> TestResponse:
    """Request a page as the operator."""
    return console.get(path, query_string=query, auth=("operator", PASSWORD))


def redrive(console: FlaskClient, service: str, **form: str) -> TestResponse:
    """Confirm a redrive on the page that asks for confirmation."""
    return confirm(console, f"/parked/{service}/redrive", fields={}, **form)


def discard(
    console: FlaskClient, service: str, event_id: str, reason: str = "a test"
) -> TestResponse:
    """Confirm a discard on the page that shows the message, with a reason."""
    path = f"/parked/{service}/discard"
    return confirm(console, path, fields={"reason": reason}, id=event_id)


def confirm(
    console: FlaskClient, path: str, *, fields: Mapping[str, str] = _NO_FIELDS, **form: str
) -> TestResponse:
    """Send the form of a page that asks for confirmation, with these fields filled in."""
    return console.post(
        path,
        data={**hidden(get(console, path, **form)), **fields},
        auth=("operator", PASSWORD),
        headers={"Origin": "http://localhost"},
    )


def preview_edit(
    console: FlaskClient, event_id: object, payload: str, redrive: str
) -> TestResponse:
    """Send the form of an edit with this payload, and return the preview."""
    form = hidden(get(console, "/parked/inventory/edit", id=str(event_id)))
    fields = {"payload": payload, "reason": "a typing error", "redrive": redrive}
    return console.post(
        "/parked/inventory/edit/preview", data=form | fields, auth=("operator", PASSWORD)
    )


def token(console: FlaskClient) -> str:
    """Return the token of the operator's forms."""
    return hidden(get(console, "/parked/inventory/plan"))["token"]


def hidden(page: TestResponse) -> dict[str, str]:
    """Return the hidden fields of a page's last form, by name."""
    form = page.text.rpartition("<form")[2]
    fields = re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form)
    return {name: unescape(value) for name, value in fields}


def log_in(console: FlaskClient, name: str, password: str, **fields: str) -> TestResponse:
    """Send the form of the login page, with these fields changed."""
    form = hidden(console.get("/login")) | {"name": name, "password": password} | fields
    return console.post("/login", data=form)


def cells(html: str, service: str) -> dict[str, str]:
    """Return a service's row of the overview, by column."""
    (row,) = re.findall(rf'scope="row"><a [^>]*>{service}</a></th>(.*?)</tr>', html, re.DOTALL)
    columns = re.findall(r'data-label="([^"]+)">(.*?)</td>', row, re.DOTALL)
    return {name: re.sub(r"<[^>]+>", "", value).strip() for name, value in columns}


def park(channel: Channel, event_id: str, reason: str = "no way", **event: Any) -> None:
    """Park a message for the inventory, as the consumer runtime does."""
    failure = Failure.of(
        Cause(Verdict.RETRY, "ValueError", reason), service="inventory", release="r1", headers={}
    )
    headers = {"task": "order.created", "id": event_id, "retries": 5} | failure.to_headers()
    body = json.dumps([[], {"event": {"subject": "an-order"} | event}, {}]).encode()
    message = Message(body, application_headers=headers, message_id=event_id, type="order.created")
    channel.basic_publish(message, exchange="inventory.retry", routing_key="parked")


def ids(channel: Channel, queue: str) -> list[str]:
    """Remove all messages from a queue, and return their ids."""
    removed = []
    while (message := channel.basic_get(queue, no_ack=True)) is not None:
        removed.append(message.headers["id"])
    return removed


def parked_ids(channel: Channel) -> list[str]:
    """Remove all messages from the inventory's parking lot, at least one, and return their ids."""
    parked = ids(channel, "inventory.dlq")
    assert parked
    return parked


def place(settings: DatabaseSettings) -> UUID:
    """Store an order that was placed 100 seconds ago with its unsent event, and return its id."""
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


def publish(settings: DatabaseSettings, order_id: UUID) -> UUID:
    """Mark the event of an order as sent, and return its id."""
    with transaction(settings, ORDER) as session:
        query = update(outbox).where(outbox.c.subject == order_id)
        sent = query.values(sent_at=datetime.now(UTC)).returning(outbox.c.event_id)
        event_id: UUID = session.execute(sent).scalar_one()
    return event_id


def secret(servers: Infrastructure, name: str) -> str:
    """Return a secret of this installation."""
    return (servers.secrets_dir / name).read_text().strip()
