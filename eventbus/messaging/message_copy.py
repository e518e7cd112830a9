"""Copies of received messages; copying never raises, regardless of a message's content."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from amqp import Message

from eventbus.messaging.untrusted import BODY_LIMIT

#: Maximum size of a copy's properties in bytes: larger properties do not fit into one AMQP frame.
PROPERTIES_LIMIT = 64 * 1024

#: Headers that the broker reads as additional routing keys. If copies had these headers, the author
#: of a message could route its copies with the permissions of the process that publishes them.
_ROUTES = frozenset({"CC", "BCC"})


def copy_of(
    body: bytes | str, properties: Mapping[str, Any], headers: Mapping[Any, Any], **changes: Any
) -> Message | None:
    """Return a persistent message with this body, these headers, and some properties changed.

    A property that is changed to None is omitted, and so are headers that would route the copy to
    other queues. The result is None if the message cannot be encoded, if its properties exceed
    `PROPERTIES_LIMIT`, or if its body exceeds `BODY_LIMIT`: the broker would close the channel.
    """
    # The broker rejects a `user_id` other than the publisher's.
    copied = {name: value for name, value in properties.items() if name != "user_id"}
    kept = {name: value for name, value in headers.items() if name not in _ROUTES}
    copied |= {"delivery_mode": 2, **changes, "application_headers": kept}
    copy = Message(body, **copied)
    with suppress(Exception):
        encoded = copy._serialize_properties()
        if len(encoded) <= PROPERTIES_LIMIT and len(body) <= BODY_LIMIT:
            return copy
    return None


def own_headers(headers: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return the headers that were set by a message's author.

    Other headers start with `x-`: the broker's headers, of which `x-death` would affect its cycle
    detection, and the headers that describe a failure.
    """
    return {name: value for name, value in headers.items() if not str(name).startswith("x-")}
