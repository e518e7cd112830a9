"""Events encoded as AMQP messages, which are also Celery tasks.

py-amqp encodes every property and frame again for each message, which takes half of a relay's time.
Here, properties and frames are encoded once per type. The values that differ between messages have
a fixed length, and are replaced in a copy. The frames follow AMQP 0-9-1, section 4.2.3.
"""

import struct
import time
from functools import lru_cache, partial
from uuid import UUID

from amqp import Message, spec
from amqp.serialization import dumps

from eventbus.errors import InvalidEvent
from eventbus.events import codec

#: Maximum size of a published envelope in bytes. RabbitMQ 4 accepts messages of up to 16 MiB, and
#: closes the channel if a message is larger.
LARGEST_EVENT = 15_000_000

#: Placeholders of the values that differ between messages; no event has any of these values.
_ID = "\0" * len(str(UUID(int=0)))
_SUBJECT = "\2" * len(_ID)
_TRACEPARENT = "\1" * len("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
_TIMESTAMP = 0x0202_0202_0202_0202

_SECONDS = struct.Struct(">Q")

_MANDATORY, _IMMEDIATE = True, False

#: The start of a frame: type, channel and payload length. It is followed by the payload and the
#: frame end.
_FRAME = struct.Struct(">BHI")
_METHOD, _HEADER, _BODY = 1, 2, 3
_END = b"\xce"
_OVERHEAD = _FRAME.size + len(_END)

#: The start of a content header: class, zero, and length of the body. It is followed by the
#: properties.
_CONTENT = struct.Struct(">HHQ")


class EventMessages:
    """An encoder of one service's messages, for one broker user and one exchange."""

    def __init__(self, service: str, user: str, exchange: str) -> None:
        self._service = service
        # The broker rejects any name except the logged-in user's, so this property identifies the
        # publisher.
        self._user = user
        self._properties = lru_cache(maxsize=256)(self._encoded_properties)
        self._publish = lru_cache(maxsize=256)(partial(_publish, exchange))

    def frames(
        self,
        event_id: UUID,
        event_type: str,
        event: str,
        traceparent: str | None,
        *,
        subject: UUID,
        channel: int,
        frame_max: int,
    ) -> bytes:
        """Return the frames, of up to `frame_max` bytes each, that publish an event.

        `event` is the envelope as JSON. Raises `InvalidEvent` if it is too large, and errors of
        py-amqp and Python for a type that a message cannot have.
        """
        body = codec.wrap(event.encode())
        if len(body) > LARGEST_EVENT:
            raise InvalidEvent(f"larger than {LARGEST_EVENT} bytes")
        properties = (
            self._properties(event_type, traceparent is not None)
            .replace(_ID.encode(), str(event_id).encode())
            .replace(_SUBJECT.encode(), str(subject).encode())
            .replace(_SECONDS.pack(_TIMESTAMP), _SECONDS.pack(int(time.time())))
            .replace(_TRACEPARENT.encode(), (traceparent or "").encode())
        )
        header = _CONTENT.pack(Message.CLASS_ID, 0, len(body)) + properties
        frames = [self._publish(event_type, channel), _frame(_HEADER, channel, header)]
        room = frame_max - _OVERHEAD
        frames += [
            _frame(_BODY, channel, body[start : start + room])
            for start in range(0, len(body), room)
        ]
        return b"".join(frames)

    def _encoded_properties(self, event_type: str, traced: bool) -> bytes:
        if event_type.startswith("("):
            # A type with this prefix would be taken for the name of a lane.
            raise InvalidEvent(f"{event_type!r} is not an event type")
        message = Message(
            content_type="application/json",
            content_encoding="utf-8",
            delivery_mode=2,
            message_id=_ID,
            # If a queue has several parts, its exchange hashes this property.
            correlation_id=_SUBJECT,
            type=event_type,
            app_id=self._service,
            user_id=self._user,
            timestamp=_TIMESTAMP,
            application_headers=task_headers(_ID, event_type, _TRACEPARENT if traced else None),
        )
        return bytes(message._serialize_properties())


def _publish(exchange: str, event_type: str, channel: int) -> bytes:
    arguments = dumps("Bssbb", (0, exchange, event_type, _MANDATORY, _IMMEDIATE))
    return _frame(_METHOD, channel, struct.pack(">HH", *spec.Basic.Publish) + arguments)


def _frame(kind: int, channel: int, payload: bytes) -> bytes:
    return b"".join((_FRAME.pack(kind, channel, len(payload)), payload, _END))


def task_headers(
    event_id: str, event_type: str, traceparent: str | None, *, retries: int = 0
) -> dict[str, object]:
    """Return the headers of Celery's message protocol, version 2, for a plain call.

    Headers that would be None are omitted, which has the same meaning.
    """
    trace = {"traceparent": traceparent} if traceparent else {}
    return trace | {
        "lang": "py",
        "task": event_type,
        "id": event_id,
        "root_id": event_id,
        "retries": retries,
        # Celery logs these headers, and the content of orders does not belong in logs.
        "argsrepr": "()",
        "kwargsrepr": "{}",
        "ignore_result": True,
    }
