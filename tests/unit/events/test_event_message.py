"""The prepared frames of an event equal those of py-amqp, byte for byte."""

from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from amqp import Message, spec
from amqp.method_framing import frame_writer
from amqp.serialization import dumps

from common.kombu_topology import EVENTS
from eventbus.events import codec
from eventbus.messaging.event_message import EventMessages, task_headers

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
MESSAGES = EventMessages("order", "order-user", EVENTS.name)
NOW = 1_764_196_000

#: The channel, and frame sizes in bytes: RabbitMQ's default, and one that splits a body.
CHANNEL, LARGE, SMALL = 3, 131_072, 4_096


def by_py_amqp(
    event_id: UUID,
    event_type: str,
    event: str,
    traceparent: str | None,
    subject: UUID,
    frame_max: int,
) -> bytes:
    message = Message(
        codec.wrap(event.encode()),
        content_type="application/json",
        content_encoding="utf-8",
        delivery_mode=2,
        message_id=str(event_id),
        correlation_id=str(subject),
        type=event_type,
        app_id="order",
        user_id="order-user",
        timestamp=NOW,
        application_headers=task_headers(str(event_id), event_type, traceparent),
    )
    written = bytearray()
    connection: Any = SimpleNamespace(frame_max=frame_max, bytes_sent=0)
    write = frame_writer(connection, SimpleNamespace(write=written.extend))
    arguments = dumps("Bssbb", (0, EVENTS.name, event_type, True, False))
    write(1, CHANNEL, spec.Basic.Publish, arguments, message)
    return bytes(written)


@pytest.mark.parametrize("frame_max", [LARGE, SMALL])
@pytest.mark.parametrize("characters", [0, 700, SMALL - 100, SMALL - 8, 10_000, 200_000])
@pytest.mark.parametrize("traceparent", [None, TRACEPARENT])
def test_the_frames_of_an_event_are_those_of_py_amqp(
    traceparent: str | None, characters: int, frame_max: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventbus.messaging.event_message.time.time", lambda: NOW + 0.9)
    event = '{"id": "ä' + characters * "x" + '"}'
    for event_id in (uuid4(), UUID(int=0), UUID(int=2**128 - 1)):
        for event_type in ("order.created", "stock.reserved"):
            # When a message is written from the prepared copy
            subject = uuid4()
            frames = MESSAGES.frames(
                event_id,
                event_type,
                event,
                traceparent,
                subject=subject,
                channel=CHANNEL,
                frame_max=frame_max,
            )

            # Then its bytes are those of py-amqp
            expected = by_py_amqp(event_id, event_type, event, traceparent, subject, frame_max)
            assert frames == expected
