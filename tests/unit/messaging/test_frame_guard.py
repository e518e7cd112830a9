"""The guard below py-amqp's parser: every message arrives, and none ends the connection."""

import struct
from collections.abc import Callable
from struct import pack
from types import SimpleNamespace
from typing import Any

import pytest
from amqp import Channel, Message, spec
from amqp.exceptions import AMQPError
from amqp.method_framing import frame_handler
from amqp.serialization import loads

from deploy.local import REPOSITORY
from eventbus.errors import InvalidEvent
from eventbus.messaging.amqps import Connection, LimitedWait
from eventbus.messaging.frame_guard import GuardedMessage, handler
from eventbus.messaging.readable_properties import ORIGINAL, PROBLEM
from testkit.wire.frames import (
    array,
    integer,
    long_string,
    nested,
    properties,
    short_string,
    table,
    timestamp,
)

#: Packages whose connections receive messages.
PRODUCT = ("analytics_worker", "common", "console", "scheduler")

TASK = (b"task", long_string(b"order.created"))
ID = short_string(b"an id")
DELIVER = (
    pack(">HH", *spec.Basic.Deliver)
    + short_string(b"consumer")
    + pack(">QB", 200, 0)
    + short_string(b"orders.topic")
    + short_string(b"order.created")
)

#: Properties that py-amqp or its callers cannot read, and the readable part of each.
UNREADABLE: dict[str, tuple[bytes, dict[str, Any]]] = {
    "a time in milliseconds": (
        properties(headers=table([TASK, (b"at", timestamp(1_795_000_000_000))]), message_id=ID),
        {"application_headers": {"task": "order.created"}, "message_id": "an id"},
    ),
    "a time before 1970": (
        properties(headers=table([(b"at", timestamp(-1)), TASK])),
        {"application_headers": {"task": "order.created"}},
    ),
    "a time within a table within an array": (
        properties(
            headers=table(
                [(b"deep", array([b"F" + table([(b"at", timestamp(2**63))])])), TASK],
            )
        ),
        {"application_headers": {"task": "order.created"}},
    ),
    "a message id that is not UTF-8": (
        properties(headers=table([TASK]), message_id=short_string(b"\xff"), app_id=ID),
        {"application_headers": {"task": "order.created"}, "app_id": "an id"},
    ),
    "a content type that is not UTF-8": (
        properties(content_type=short_string(b"\xc3"), delivery_mode=b"\2"),
        {"application_headers": {}, "delivery_mode": 2},
    ),
    "arrays 2,000 deep": (
        properties(headers=table([TASK, (b"deep", nested(2_000))]), message_id=ID),
        {"application_headers": {"task": "order.created"}, "message_id": "an id"},
    ),
    "tables 2,000 deep": (
        properties(headers=table([(b"deep", nested(2_000, tables=True)), TASK])),
        {"application_headers": {"task": "order.created"}},
    ),
    "arrays 300 deep": (
        properties(headers=table([TASK, (b"deep", nested(300))])),
        {"application_headers": {"task": "order.created"}},
    ),
    "an unknown type": (
        properties(headers=table([TASK, (b"odd", b"Z\0"), (b"lost", integer(1))]), app_id=ID),
        {"application_headers": {"task": "order.created"}, "app_id": "an id"},
    ),
    "an unknown type in an array": (
        properties(headers=table([(b"odd", array([b"Z"])), TASK])),
        {"application_headers": {"task": "order.created"}},
    ),
    "an offset that the publisher has added": (
        properties(
            headers=table(
                [(b"x-stream-offset", integer(7)), TASK, (b"x-stream-offset", integer(10**9))]
            )
        ),
        {"application_headers": {"task": "order.created", "x-stream-offset": 7}},
    ),
    "a table that is cut": (
        properties(headers=table([TASK, (b"number", integer(1))]))[:-3],
        {"application_headers": {}},
    ),
    "a value longer than its table": (
        properties(headers=table([TASK, (b"long", b"S\0\0\1\0text")]), app_id=ID),
        {"application_headers": {"task": "order.created"}, "app_id": "an id"},
    ),
    "a short string that is cut": (
        properties(content_type=short_string(b"text"), message_id=b"\xfftext", timestamp=b""),
        {"application_headers": {}, "content_type": "text"},
    ),
    "flags without values": (b"\xff\xff", {"application_headers": {}}),
}

#: Those that py-amqp parses nevertheless.
PARSED = {"arrays 300 deep", "an offset that the publisher has added"}


class Receiver:
    """The code behind the guard: py-amqp's frame handler, and a callback."""

    def __init__(self, on_method: Callable[..., Any] = lambda *_: None) -> None:
        self.received: list[tuple[tuple[int, int], bytes, Message]] = []
        connection = SimpleNamespace(bytes_recv=0, Channel=None)

        def callback(channel: int, method: tuple[int, int], payload: bytes, content: Any) -> None:
            on_method(channel, method, payload, content)
            self.received.append((method, payload, content))

        self._handle = handler(connection, callback)

    def get(self, properties: bytes, body: bytes = b"body", *, deliver: bytes = DELIVER) -> Message:
        self._handle((1, 1, deliver))
        self._handle((2, 1, content_header(properties, body)))
        if body:
            self._handle((3, 1, body))
        return self.received[-1][2]


def content_header(properties: bytes, body: bytes = b"body") -> bytes:
    return pack(">HHQ", 60, 0, len(body)) + properties


def received(properties: bytes, body: bytes = b"body") -> GuardedMessage:
    message = Receiver().get(properties, body)
    message.delivery_info = {"delivery_tag": 200}
    return GuardedMessage(message)


def arguments_of(method: tuple[int, int], payload: bytes) -> list[Any]:
    values, _ = loads(Channel._METHODS[method].args, payload, 4)
    return list(values)


unreadable = pytest.mark.parametrize("name", UNREADABLE)


@unreadable
@pytest.mark.parametrize("body", [b"body", b""])
def test_a_message_arrives_without_its_unreadable_properties(name: str, body: bytes) -> None:
    sent, expected = UNREADABLE[name]
    receiver = Receiver()

    message = receiver.get(sent, body)

    values = dict(message.properties)
    headers = dict(values.pop("application_headers"))
    assert (message.body or b"") == body
    assert headers.pop(PROBLEM)
    original = headers.pop(ORIGINAL)
    assert (original.encode() if isinstance(original, str) else original) == sent
    assert {"application_headers": headers} | values == expected
    assert message.frame_args == DELIVER


@unreadable
def test_a_message_with_unreadable_properties_has_errors(name: str) -> None:
    message = received(UNREADABLE[name][0])

    ((_, error, _),) = message.errors
    assert isinstance(error, InvalidEvent)
    assert str(error).startswith("properties are unreadable: ")


@unreadable
def test_the_next_message_arrives_complete(name: str) -> None:
    receiver = Receiver()
    receiver.get(UNREADABLE[name][0])

    message = receiver.get(properties(headers=table([TASK]), message_id=ID))

    assert message.properties == {
        "application_headers": {"task": "order.created"},
        "message_id": "an id",
    }


def test_the_problem_names_the_header_and_the_reason() -> None:
    sent, _ = UNREADABLE["a time in milliseconds"]

    problem = Receiver().get(sent).headers[PROBLEM]

    assert problem.startswith("header at: ValueError: year")


def test_a_message_with_a_large_valid_header_has_no_errors() -> None:
    large = table([TASK, (b"padding", long_string(b"x" * 100_000))])

    message = received(properties(headers=large))

    assert message.errors == []
    assert message.headers["task"] == "order.created"


def test_the_body_is_neither_decoded_nor_decompressed() -> None:
    compressed = table([TASK, (b"compression", long_string(b"bzip2"))])
    sent = properties(content_encoding=short_string(b"punycode"), headers=compressed)

    message = received(sent, b"not bzip2")

    assert message.body == b"not bzip2"
    assert [str(error) for _, error, _ in message.errors] == ["header compression is set"]


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        (spec.Basic.Deliver, short_string(b"consumer") + pack(">QB", 200, 1)),
        (spec.Basic.Return, pack(">H", 312) + short_string(b"NO_ROUTE")),
    ],
)
def test_a_routing_key_that_is_not_utf8_is_replaced(
    method: tuple[int, int], arguments: bytes
) -> None:
    def parse(_channel: int, method: tuple[int, int], payload: bytes, _content: Any) -> None:
        seen.append(arguments_of(method, payload))

    seen: list[list[Any]] = []
    names = short_string(b"orders.topic") + short_string(b"order.\xff")
    receiver = Receiver(parse)

    receiver.get(properties(message_id=ID), deliver=pack(">HH", *method) + arguments + names)

    assert seen[0][-2:] == ["orders.topic", "order.?"]


@pytest.mark.parametrize("body", [b"body", b""])
def test_an_error_of_the_callback_is_raised_once(body: bytes) -> None:
    calls = []

    def fail(*_: object) -> None:
        calls.append(1)
        b"\xff".decode()

    receiver = Receiver(fail)

    with pytest.raises(UnicodeDecodeError):
        receiver.get(properties(message_id=ID), body)
    assert len(calls) == 1


def test_every_connection_of_the_services_is_guarded() -> None:
    modules = [
        path.relative_to(REPOSITORY)
        for package in PRODUCT
        for path in sorted((REPOSITORY / package).rglob("*.py"))
        if path.name != "amqps.py"
        if "import Connection" in path.read_text() and "kombu.connection" in path.read_text()
    ]

    connection = Connection("amqps://one;amqps://two")
    connection.maybe_switch_next()

    assert modules == []
    assert "frame_handler" not in connection.transport_options
    assert issubclass(connection.transport.Connection.Channel, LimitedWait)
    assert connection.transport.Connection.Channel.Message is GuardedMessage


@unreadable
def test_the_parser_of_py_amqp_raises_without_the_guard(name: str) -> None:
    connection = SimpleNamespace(bytes_recv=0)
    handle = frame_handler(connection, lambda *_: None)
    handle((1, 1, DELIVER))

    if name in PARSED:
        handle((2, 1, content_header(UNREADABLE[name][0])))
    else:
        with pytest.raises((ValueError, ArithmeticError, RecursionError, struct.error, AMQPError)):
            handle((2, 1, content_header(UNREADABLE[name][0])))
