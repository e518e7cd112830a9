"""An event's message: what is put into a coded copy reads as if py-amqp had coded it."""

from time import time
from uuid import UUID, uuid4

import pytest
from amqp import Message

from common import codec
from common.event_message import EventMessages, task_headers

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
MESSAGES = EventMessages("order", "order-user")


@pytest.mark.parametrize("traceparent", [None, TRACEPARENT])
def test_a_message_has_the_properties_that_py_amqp_codes(traceparent: str | None) -> None:
    for event_id in (uuid4(), UUID(int=0), UUID(int=2**128 - 1)):
        for event_type in ("order.created", "stock.reserved"):
            # when
            before = int(time())
            message = MESSAGES.message(event_id, event_type, '{"id": "ä"}', traceparent)
            read = _read(message)

            # then
            assert before <= read.pop("timestamp") <= time()
            assert read == {
                "content_type": "application/json",
                "content_encoding": "utf-8",
                "delivery_mode": 2,
                "message_id": str(event_id),
                "correlation_id": str(event_id),
                "type": event_type,
                "app_id": "order",
                "user_id": "order-user",
                "application_headers": task_headers(str(event_id), event_type, traceparent),
            }
            assert message.body == codec.wrap('{"id": "ä"}'.encode())


def _read(message: Message) -> dict[str, object]:
    copy = Message()
    copy._load_properties(Message.CLASS_ID, message._serialize_properties(), 0)
    properties: dict[str, object] = copy.properties
    return properties
