"""A guard below py-amqp's parser, which keeps a message from terminating its connection.

Each connection of `eventbus.messaging.amqps` has this guard. A message whose properties cannot be
parsed, or repeat a header of the broker, is delivered with the readable properties and with
`errors` set, so the consumer's check rejects it: see `eventbus.messaging.readable_properties`.
"""

from collections.abc import Callable
from typing import Any

from amqp import spec
from amqp.method_framing import frame_handler
from amqp.serialization import loads
from kombu.transport import pyamqp

from eventbus.errors import InvalidEvent
from eventbus.messaging.readable_properties import PROBLEM, is_readable, may_repeat, readable

#: A frame: type, channel, payload.
Frame = tuple[int, int, bytes]

_HEADER = 2

#: Size in bytes up to which the nesting of a content header is not checked, because a header of
#: this size has fewer than 200 levels. The headers of the services' messages are smaller.
_SMALL = 1024

#: Methods with names chosen by a publisher, and the types of their arguments.
_NAMING = {spec.Basic.Deliver: "sLbss", spec.Basic.Return: "Bsss"}

#: Number of bytes of a method's id, and of each argument that is not a name.
_METHOD_BYTES = 4
_ARGUMENT_BYTES = {"L": 8, "B": 2, "b": 1}

#: A translation table that replaces each non-ASCII byte with a question mark.
_ASCII = bytes(range(128)) + b"?" * 128


class GuardedMessage(pyamqp.Message):
    """A message that is never decompressed, and whose `errors` are set if it is defective."""

    def __init__(self, msg: Any, channel: Any = None, **kwargs: Any) -> None:
        if problem := _problem(msg.headers or {}):
            # If errors are already set, kombu keeps them and does not decompress the body.
            self.errors: Any = [(InvalidEvent, InvalidEvent(problem), None)]
        super().__init__(msg, channel=channel, **kwargs)  # type: ignore[no-untyped-call]


def handler(connection: pyamqp.Connection, callback: Callable[..., Any]) -> Callable[[Frame], bool]:
    """Return py-amqp's handler of a connection's frames, behind the guard."""

    def on_method(channel: int, method: tuple[int, int], payload: bytes, content: Any) -> Any:
        try:
            return callback(channel, method, payload, content)
        except UnicodeDecodeError:
            readable_payload = _with_readable_names(method, payload)
            # The frames are readable, so the error comes from the callback and is propagated.
            if readable_payload == payload:
                raise
        return callback(channel, method, readable_payload, content)

    handle = frame_handler(connection, on_method)

    def on_frame(frame: Frame) -> bool:
        kind, channel, payload = frame
        if kind == _HEADER and (len(payload) > _SMALL or may_repeat(payload)):
            frame = kind, channel, readable(payload)
        try:
            return bool(handle(frame))
        except Exception:
            # The header is the last frame of a message without a body, so the error may come from
            # the callback.
            if kind != _HEADER or is_readable(frame[2]):
                raise
        return bool(handle((kind, channel, readable(payload))))

    return on_frame


def _problem(headers: dict[Any, Any]) -> str | None:
    if problem := headers.get(PROBLEM):
        return f"properties are unreadable: {problem}"
    if headers.get("compression"):
        return "header compression is set"
    return None


def _with_readable_names(method: tuple[int, int], payload: bytes) -> bytes:
    """Return a method's payload; if its names are not UTF-8, replace their non-ASCII bytes."""
    arguments = _NAMING.get(method, "")
    try:
        loads(arguments, payload, _METHOD_BYTES)
    except UnicodeDecodeError:
        return _with_ascii_names(arguments, payload)
    return payload


def _with_ascii_names(arguments: str, payload: bytes) -> bytes:
    readable_payload, offset = bytearray(payload), _METHOD_BYTES
    for kind in arguments:
        end = offset + (_ARGUMENT_BYTES.get(kind) or 1 + payload[offset])
        if kind == "s":
            readable_payload[offset + 1 : end] = payload[offset + 1 : end].translate(_ASCII)
        offset = end
    return bytes(readable_payload)
