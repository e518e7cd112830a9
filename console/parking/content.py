"""The content of one parked message, as its pages show it."""

from collections.abc import Mapping
from dataclasses import dataclass

from amqp import Message

from console.broker.parked_message import Parked, body_bytes
from eventbus.messaging.untrusted import text
from eventbus.topology.service import Service

#: Characters of a header that are shown, and of all headers of a message together.
HEADER_LIMIT, HEADERS_LIMIT = 4_000, 100_000


@dataclass(frozen=True, kw_only=True)
class Content:
    """A parked message with its headers as text; `body` is None if only its size is known."""

    parked: Parked
    headers: Mapping[str, str]
    size: int
    body: bytes | None

    @classmethod
    def of(cls, service: Service, message: Message) -> "Content":
        """Return the content of a message, regardless of what it is."""
        body = body_bytes(message)
        return cls(
            parked=Parked.of(service, message),
            headers=_headers(message.headers or {}),
            size=len(body),
            body=body,
        )


def _headers(headers: Mapping[object, object]) -> dict[str, str]:
    shown: dict[str, str] = {}
    left = HEADERS_LIMIT
    for name, value in sorted(
        (text(name), text(value, HEADER_LIMIT)) for name, value in headers.items()
    ):
        left -= len(name) + len(value)
        if left < 0:
            break
        shown[name] = value
    return shown
