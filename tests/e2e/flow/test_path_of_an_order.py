"""An order takes the path that the README describes, through all processes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flask.testing import FlaskClient

from console.actions import topology
from order_app.app import create_app
from order_app.settings import ApiSettings
from testkit.eventually import becomes, eventually
from testkit.processes.api_client import with_key
from testkit.processes.call_record import CallRecord, assert_called_in_order
from testkit.processes.order_requests import an_order, close, place
from testkit.processes.stack import Stack
from tests.support.documents import path_of_an_order

SENT = "SELECT type FROM outbox WHERE sent_at IS NOT NULL ORDER BY id"
WRITTEN = "SELECT type FROM outbox"
MAILS = "SELECT status FROM notifications"


def test_an_order_takes_the_path_in_the_readme(stack: Stack, tmp_path: Path) -> None:
    # Given the functions of the path, whose calls are recorded in every process
    *path, failure = (f"{file}:{function}" for file, function in path_of_an_order())
    record = CallRecord(tmp_path / "calls", (*path, failure))
    stack.extra |= record.environment
    stack.stock(TEA=10)

    with api_of(stack) as api:
        # When an order is placed, and each process starts after the process before it has finished
        with record.recording():
            list(topology.apply(stack.broker_admin))
            assert place(api).status_code == 201
        stack.start("order-relay")
        becomes(lambda: stack.execute("order", SENT), ["order.created"])
        stack.start("inventory-worker")
        becomes(lambda: stack.execute("inventory", WRITTEN), ["stock.reserved"])
        stack.start("inventory-relay")
        becomes(lambda: stack.execute("inventory", SENT), ["stock.reserved"])
        stack.start("order-worker")
        becomes(lambda: stack.execute("order", SENT), ["order.created", "order.confirmed"])
        stack.start("notification-worker")
        becomes(lambda: stack.execute("notification", MAILS), ["PENDING", "PENDING"])
        stack.start("notification-mailer")
        becomes(lambda: stack.execute("notification", MAILS), ["SENT", "SENT"])

        # Then the functions of the path are called in its order
        calls = record.calls()
        assert_called_in_order(path, calls)
        assert failure not in calls

        # When the handler fails at an event
        stack.shut_down("inventory-worker")
        stack.start_failing()
        assert place(api, an_order(customer={"email": "twice@example.com"})).status_code == 201

        # Then the event is retried
        eventually(lambda: assert_called_in_order([failure], record.calls()))


@contextmanager
def api_of(stack: Stack) -> Iterator[FlaskClient]:
    """Yield a client of the API in this process: a server's threads cannot be traced."""
    app = create_app(ApiSettings(**stack.databases["order"].settings))
    api = with_key(app, stack.api_key)
    try:
        yield api
    finally:
        close(api)
