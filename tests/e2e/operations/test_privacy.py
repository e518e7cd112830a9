"""A customer's address is only where `docs/privacy.md` lists it, even after failures."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from common.events import Customer, Money, OrderCreatedV2, PricedLine
from deploy.local.processes.programs import PROGRAMS, Health
from eventbus.consumer.failure import Failure
from eventbus.events import codec
from eventbus.events.envelope import Event
from eventbus.messaging.in_flight import Outgoing
from testkit.data.orders import stored
from testkit.eventually import eventually
from testkit.mail.smtp_server import SmtpServer, serving
from testkit.processes.publishers import publish_and_settle
from testkit.processes.stack import Stack
from testkit.servers.workers import own_ports
from tests.support import places

#: Parts of every address in this module. Neither occurs anywhere else.
LOCAL, DOMAIN = "zq7klovelace", "vx9wbyron"

DOCUMENT = Path(__file__).parents[3] / "docs" / "privacy.md"

#: The columns that contain addresses. The document lists the table of each.
COLUMNS = {
    ("order", "orders", "customer_email"),
    ("order", "outbox", "event"),
    ("fraud", "judgements", "customer_email"),
    ("fraud", "judgements", "customer"),
    ("fraud", "outbox", "event"),
    ("notification", "notifications", "recipient"),
    ("notification", "notifications", "context"),
    ("analytics", "skipped_events", "body"),
}

# The detail of a violated constraint, with the whole row.
_QUOTE_ROW = """
CREATE FUNCTION quote_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'refused'
        USING ERRCODE = 'check_violation', DETAIL = format('%s %s %s', TG_ARGV[0], OLD, NEW);
END $$
"""


def address(name: str) -> str:
    """Return an address that contains both parts; `name` selects what happens to its order."""
    return f"{name}+{LOCAL}@{DOMAIN}.example"


def contains(text: str) -> bool:
    return LOCAL in text.lower() or DOMAIN in text.lower()


@pytest.fixture
def mail_server() -> Iterator[SmtpServer]:
    """A mail server that rejects some recipients, and quotes their addresses."""
    replies = {
        "refused": "550 5.1.1 <{0}>: mailbox {1} is unknown at {2}",
        "deferred": "451 4.2.2 {0} is over quota: https://help.example/?to={1}%40{2}",
        "garbled": "sorry, {0}",
    }

    def rcpt(command: str) -> str:
        recipient = command.partition("<")[2].partition(">")[0]
        local, _, domain = recipient.partition("@")
        reply = replies.get(local.partition("+")[0], "250 ok")
        return reply.format(recipient, local, domain)

    with serving({"RCPT": rcpt}) as server:
        yield server


@pytest.fixture
def running(stack: Stack, mail_server: SmtpServer) -> Stack:
    """Every process of the system, with metrics and spans."""
    ports = own_ports()
    stack.metrics_ports |= {
        program.name: ports.of(program.metrics_variable)
        for program in PROGRAMS
        if program.health is Health.HEARTBEAT and program.metrics_variable
    }
    stack.trace()
    stack.extra |= {
        "SMTP_PORT": str(mail_server.port),
        "FRAUD_AMOUNTS": "EUR:1000",
        "OPERATOR_EMAIL": "ops@shop.example",
    }
    stack.stock(TEA=1_000)
    for service in ("order", "notification", "analytics"):
        stack.execute(service, _QUOTE_ROW)
    _keep_an_old_event(stack)
    stack.start_failing()
    started = {"spans", "inventory-worker"}
    stack.start(*(p.name for p in PROGRAMS if p.is_installed and p.name not in started))
    return stack


def test_an_address_is_only_where_the_document_lists_it(running: Stack) -> None:
    stack = running

    # Given an order that succeeds, a suspicious one, and orders whose emails are rejected
    for name in ("ada", "refused", "deferred", "garbled"):
        stack.decided(stack.place(("TEA", 1), email=address(name)))
    stack.decided(stack.place(("TEA", 3), email=address("suspicious")))

    # And failed, invalid and undecodable events
    for name in ("permanent", "quote", "row"):
        stack.place(("TEA", 1), email=address(name))
    _publish_invalid_events(stack)
    eventually(lambda: _assert_parked(stack))

    # And requests that fail, with an address in the path, the query and the body
    _make_bad_requests(stack)

    # And databases whose errors quote the row
    _fail_databases(stack)

    # When all of it is recorded
    eventually(lambda: _assert_recorded(stack))
    logs, metrics = places.logs(stack), places.metrics(stack)
    tasks, headers = places.task_events(stack), places.headers(stack)

    # Then no address is in any of these places
    contents = logs | metrics | tasks | headers
    assert [place for place, content in contents.items() if contains(content)] == []

    # And the databases contain addresses only in the documented columns, and not in a reason
    columns = places.columns(stack, (LOCAL, DOMAIN))
    assert columns == COLUMNS
    document = DOCUMENT.read_text()
    for service, table, _ in columns:
        assert re.search(rf"^\| {service}: [^|]*`{table}`", document, re.M), f"{service}: {table}"


# --- What happens -------------------------------------------------------------------------------


def _keep_an_old_event(stack: Stack) -> None:
    """Store a sent event that retention cannot delete."""
    stack.execute(
        "order",
        "INSERT INTO outbox (event_id, type, subject, event, sent_at)"
        " VALUES (:id, 'order.created', :id, :event, now() - interval '100 days')",
        id=uuid4(),
        event=address("old"),
    )
    _refuse(stack, "order", "outbox", "DELETE")


def _refuse(stack: Stack, service: str, table: str, operation: str, text: str = "") -> None:
    stack.execute(
        service,
        f"CREATE TRIGGER refuse BEFORE {operation} ON {table}"
        f" FOR EACH ROW EXECUTE FUNCTION quote_row('{text}')",
    )


@contextmanager
def _refusing(stack: Stack, service: str, table: str, operation: str, text: str) -> Iterator[None]:
    _refuse(stack, service, table, operation, text)
    try:
        yield
    finally:
        stack.execute(service, f"DROP TRIGGER refuse ON {table}")


def _publish_invalid_events(stack: Stack) -> None:
    lines = (PricedLine(sku="TEA", quantity=1, unit_price=Money(amount=1, currency="EUR")),)
    data = OrderCreatedV2(
        customer=Customer(email=f"{LOCAL}@{DOMAIN}_.example"),
        lines=lines,
        total=Money(amount=1, currency="EUR"),
    )
    event = Event(source="order", subject=uuid4(), sequence=1, data=data)
    envelope = codec.encode(event).decode()
    unknown = envelope.replace('"order.created.v2"', f'"{address("unknown")}"')
    publisher = stack.publisher()
    report = publish_and_settle(
        publisher,
        [
            Outgoing(event.id, event.type, envelope, event.subject),
            Outgoing(uuid4(), event.type, unknown, event.subject),
        ],
    )
    publisher.close()
    assert len(report.confirmed) == 2


def _make_bad_requests(stack: Stack) -> None:
    with stack.client as client:
        for path in ("/orders/", "/", "/orders?email="):
            client.get(f"{path}{address('path')}")
        client.post("/orders", json={"customer": {"email": f"{LOCAL} {DOMAIN}"}})
    with _refusing(stack, "order", "orders", "INSERT", ""):
        assert stack.post_order(("TEA", 1), email=address("row")).status_code == 500


def _fail_databases(stack: Stack) -> None:
    def logged(process: str, message: str) -> Callable[[], None]:
        def check() -> None:
            assert message in stack.log(process)

        return check

    quoted = address("constant")
    eventually(logged("order-relay", "retention interrupted"))
    with _refusing(stack, "order", "orders", "UPDATE", quoted):
        overdue = {"customer_email": address("overdue"), "deadline_at": datetime.now(UTC)}
        stored(stack.sessions("order"), **overdue)
        eventually(logged("order-relay", "overdue orders not cancelled"))
    stack.execute("order", "DROP TRIGGER refuse ON outbox")
    with _refusing(stack, "order", "outbox", "UPDATE", quoted):
        stack.place(("TEA", 1), email=address("ada"))
        eventually(logged("order-relay", "drain failed"))
    with _refusing(stack, "notification", "notifications", "UPDATE", quoted):
        stack.place(("TEA", 1), email=address("ada"))
        eventually(logged("notification-mailer", "mailer failed with a database error"))
    with _refusing(stack, "analytics", "orders", "INSERT OR UPDATE", quoted):
        stack.place(("TEA", 1), email=address("ada"))
        eventually(lambda: _assert_skipped(stack, "CheckViolation%"))
    with _refusing(stack, "analytics", "skipped_events", "INSERT", quoted):
        _publish_invalid_events(stack)
        eventually(logged("analytics-reader", "reader failed with a database error"))


# --- What is recorded ---------------------------------------------------------------------------


def _assert_parked(stack: Stack) -> None:
    failures = [Failure.from_headers(m.headers) for m in stack.vhost.messages("inventory.dlq")]
    exceptions = {failure.exception for failure in failures if failure}
    assert exceptions >= {"Permanent", "ValueError", "IntegrityError"}
    reasons = {
        failure.text
        for message in stack.vhost.messages("notification.dlq")
        if (failure := Failure.from_headers(message.headers))
    }
    assert reasons == {"customer_email is not an email address", "unknown event type ***"}


def _assert_skipped(stack: Stack, reason: str) -> None:
    count = "SELECT count(*) FROM skipped_events WHERE reason LIKE :reason"
    assert stack.execute("analytics", count, reason=reason)[0] >= 1


def _assert_recorded(stack: Stack) -> None:
    errors = set(
        stack.execute("notification", "SELECT last_error FROM notifications WHERE attempts > 0")
    )
    assert "550 5.1.1 <***>: mailbox *** is unknown at ***" in errors
    assert "451 4.2.2 *** is over quota: https:***" in errors
    assert "RCPT: Garbled: not an SMTP reply: b'sorry, ***" in errors
    subjects = "SELECT kind FROM notifications WHERE status = 'SENT'"
    assert {"received", "confirmed", "suspected"} <= set(stack.execute("notification", subjects))
    _assert_skipped(stack, "not an event: InvalidEvent: unknown event type%")
    spans = stack.execute("trace", "SELECT reason FROM spans WHERE status = 'error'")
    assert any(str(reason).startswith("IntegrityError: UniqueViolation") for reason in spans)
    tasks = " ".join(places.task_events(stack).values())
    assert all(f'"state": "{state}"' in tasks for state in ("SUCCESS", "FAILURE"))
