"""Malformed messages are parked with the reason, and stop no worker."""

import json
from typing import Any
from uuid import uuid4

from common.events import Line, OrderCreated
from common.kombu_topology import EVENTS
from eventbus.consumer.failure import Failure
from eventbus.events import codec
from eventbus.events.envelope import Event
from eventbus.messaging.untrusted import BODY_LIMIT
from testkit.eventually import eventually
from testkit.processes.stack import Stack

EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def test_malformed_messages_are_parked_and_stop_no_worker(stack: Stack) -> None:
    # Given two running services
    stack.stock(TEA=10)
    workers = ("inventory-worker", "notification-worker")
    stack.start(*workers)

    # When malformed messages of many kinds are published, and then a good one
    malformed = _malformed()
    for message in malformed:
        stack.vhost.publish(exchange=EVENTS.name, routing_key="order.created", **message)
    good = _event()
    stack.vhost.publish(
        body=_body(good),
        headers=_headers(),
        exchange=EVENTS.name,
        routing_key="order.created",
    )

    # Then each service parks the malformed messages and handles the good one
    def settled() -> None:
        for service in ("inventory", "notification"):
            assert stack.vhost.depth(f"{service}.queue") == 0
            assert stack.vhost.depth(f"{service}.dlq") == len(malformed)
        assert stack.reserved("TEA") == 1

    eventually(settled)

    # And each has its reason in its headers
    parked = stack.vhost.messages("inventory.dlq")
    failures = [Failure.from_headers(message.headers) for message in parked]
    assert sum(failure is None for failure in failures) == 1  # its headers already fill a frame
    for failure in filter(None, failures):
        assert failure.exception == "InvalidEvent", failure
        assert failure.text

    # And no worker has stopped
    for worker in workers:
        assert stack.is_running(worker)
        assert "Unrecoverable" not in stack.log(worker)


def _malformed() -> list[dict[str, Any]]:
    """Return every malformed message, as arguments of `Vhost.publish`."""
    bodies = [
        b"",
        b"\xff\xfe\x00 no text",
        b"null",
        b"1",
        b'"text"',
        b"{}",
        b"[]",
        b"[1,2,3]",
        b"[[],{},{}]",
        b"[" * 100_000,
        json.dumps([[1], {"event": _event()}, EMBED]).encode(),
        json.dumps([[], [], EMBED]).encode(),
        json.dumps([[], {"event": 1}, EMBED]).encode(),
        json.dumps([[], {}, EMBED]).encode(),
        json.dumps([[], {"event": _event()}, EMBED | {"callbacks": [{"task": "x"}]}]).encode(),
        json.dumps([[], {"event": _event()}, EMBED | {"more": 1}]).encode(),
        b"x" * BODY_LIMIT,
        _body(_event() | {"type": "x" * (BODY_LIMIT - 2_000)}),
    ]
    headers = [
        {},
        _headers(task=None),
        _headers(task=["order.created"]),
        _headers(task="nobody.knows"),
        _headers(task="celery.backend_cleanup"),
        _headers(id=None),
        _headers(id=5),
        _headers(id="not a uuid"),
        _headers(retries="1"),
        _headers(retries=-1),
        _headers(retries=True),
        _headers(timelimit="x"),
        _headers(timelimit=[1, 2]),
        _headers(eta="2090-01-01T00:00:00"),
        _headers(expires="x"),
        _headers(stamped_headers=["x"]),
        _headers(compression="nobody-knows"),
        _headers(compression="gzip"),
        _headers(task=None, padding="x" * 100_000),
    ]
    properties = [
        {"content_type": "application/x-python-serialize"},
        {"content_type": None},
        {"content_encoding": "nobody-knows"},
    ]
    events = [
        {"type": "order.confirmed"},
        {"type": "nobody.knows"},
        {"type": None},
        {"specversion": "2.0"},
        {"id": "not a uuid"},
        {"time": "yesterday"},
        {"sequence": "1"},
        {"sequence": 0},
        {"subject": None},
        {"data": None},
        {"data": {}},
        {"data": _event()["data"] | {"lines": []}},
        {"data": _event()["data"] | {"total": "1"}},
    ]
    good = _body(_event())
    return [
        *({"body": body, "headers": _headers()} for body in bodies),
        *({"body": good, "headers": changed} for changed in headers),
        *({"body": good, "headers": _headers(), **changed} for changed in properties),
        *({"body": _body(_event() | changed), "headers": _headers()} for changed in events),
    ]


def _event() -> dict[str, Any]:
    line = Line(sku="TEA", quantity=1, unit_price=500)
    data = OrderCreated(customer_email="a@example.com", currency="EUR", total=500, lines=(line,))
    event = Event(source="order", subject=uuid4(), sequence=1, data=data)
    envelope: dict[str, Any] = json.loads(codec.encode(event))
    return envelope


def _body(envelope: dict[str, Any]) -> bytes:
    return codec.wrap(json.dumps(envelope).encode())


def _headers(**changes: Any) -> dict[str, Any]:
    headers = {"task": "order.created", "id": str(uuid4()), "retries": 0} | changes
    return {name: value for name, value in headers.items() if value is not None}
