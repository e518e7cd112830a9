"""Copies of messages: made of anything that was received, never raising."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from amqp import Message

from eventbus.messaging.untrusted import BODY_LIMIT

#: Bytes of properties beyond which a copy is not made: they would not fit into one AMQP frame.
PROPERTIES_LIMIT = 64 * 1024


def copy_of(
    body: bytes | str, properties: Mapping[str, Any], headers: Mapping[Any, Any], **changes: Any
) -> Message | None:
    """Return a persistent message with this body, these headers, and other properties changed.

    A property that is changed to None is left out. None if the message cannot be written to the
    wire, its properties are larger than `PROPERTIES_LIMIT`, or its body is larger than
    `BODY_LIMIT`: the broker would close the channel.
    """
    # The broker refuses a `user_id` other than the publisher's.
    kept = {name: value for name, value in properties.items() if name != "user_id"}
    kept |= {"delivery_mode": 2, **changes, "application_headers": dict(headers)}
    copy = Message(body, **kept)
    with suppress(Exception):
        written = copy._serialize_properties()
        if len(written) <= PROPERTIES_LIMIT and len(body) <= BODY_LIMIT:
            return copy
    return None


def own_headers(headers: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return the headers of a message's author.

    Others begin with `x-`: the broker's, of which `x-death` would feed its cycle detection, and
    those of a failure.
    """
    return {name: value for name, value in headers.items() if not str(name).startswith("x-")}
