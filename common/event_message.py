"""An event as an AMQP message, which is also a Celery task.

py-amqp codes each property of each message anew, which is a third of a relay's work. Here it does
so once for each type; what differs has a fixed length, and is put into a copy.
"""

import struct
import time
from functools import lru_cache
from uuid import UUID

from amqp import Message

from common import codec

#: What stands for the values that differ: no event has any of these.
_ID = "\0" * len(str(UUID(int=0)))
_TRACEPARENT = "\1" * len("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
_TIMESTAMP = 0x0202_0202_0202_0202

_SECONDS = struct.Struct(">Q")


class EventMessages:
    """Makes the messages of one service, published by one broker user."""

    def __init__(self, service: str, user: str) -> None:
        self._service = service
        # The broker refuses another user's name: this is who published it.
        self._user = user
        self._coded = lru_cache(maxsize=256)(self._code)

    def message(
        self, event_id: UUID, event_type: str, event: str, traceparent: str | None
    ) -> Message:
        """Return the message of an event; `event` is the envelope as JSON."""
        properties = (
            self._coded(event_type, traceparent is not None)
            .replace(_ID.encode(), str(event_id).encode())
            .replace(_SECONDS.pack(_TIMESTAMP), _SECONDS.pack(int(time.time())))
            .replace(_TRACEPARENT.encode(), (traceparent or "").encode())
        )
        return _Coded(codec.wrap(event.encode()), properties)

    def _code(self, event_type: str, traced: bool) -> bytes:
        message = Message(
            content_type="application/json",
            content_encoding="utf-8",
            delivery_mode=2,
            message_id=_ID,
            correlation_id=_ID,
            type=event_type,
            app_id=self._service,
            user_id=self._user,
            timestamp=_TIMESTAMP,
            application_headers=task_headers(_ID, event_type, _TRACEPARENT if traced else None),
        )
        return bytes(message._serialize_properties())


class _Coded(Message):
    """A message whose properties are coded already."""

    def __init__(self, body: bytes, properties: bytes) -> None:
        super().__init__(body)
        self._coded = properties

    def _serialize_properties(self) -> bytes:
        return self._coded


def task_headers(event_id: str, event_type: str, traceparent: str | None) -> dict[str, object]:
    """Return the headers of Celery's message protocol, version 2, for a plain call.

    What would be None is left out, as it means the same.
    """
    trace = {"traceparent": traceparent} if traceparent else {}
    return trace | {
        "lang": "py",
        "task": event_type,
        "id": event_id,
        "root_id": event_id,
        "retries": 0,
        # Celery puts these into its logs: what customers ordered does not belong there.
        "argsrepr": "()",
        "kwargsrepr": "{}",
        "ignore_result": True,
    }
