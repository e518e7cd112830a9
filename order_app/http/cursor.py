"""Cursors: positions in the list of orders, as opaque strings for the next request."""

import base64
import re
import struct
from datetime import UTC, datetime, timedelta
from uuid import UUID

from order_app.use_cases import Position

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_POSITION = struct.Struct(">Q16s")

#: The form of a cursor. Every string of this form is a position, because the first byte is 0, so
#: the time is a valid date.
PATTERN = "^A[A-P][A-Za-z0-9_-]{30}$"


def encode(position: Position) -> str:
    """Return the cursor of a position."""
    microseconds = (position.created_at - _EPOCH) // _MICROSECOND
    return base64.urlsafe_b64encode(_POSITION.pack(microseconds, position.id.bytes)).decode()


def decode(cursor: str) -> Position:
    """Return the position of a cursor. Raises `ValueError` if the cursor is invalid."""
    if not re.fullmatch(PATTERN, cursor):
        raise ValueError("is not a cursor of this list")
    microseconds, order_id = _POSITION.unpack(base64.urlsafe_b64decode(cursor))
    created_at = _EPOCH + microseconds * _MICROSECOND
    return Position(created_at=created_at, id=UUID(bytes=order_id))
