"""The readable part of properties: the parser accepts what remains of any bytes."""

from struct import pack

from hypothesis import given
from hypothesis import strategies as st

from eventbus.messaging.readable_properties import DEPTH_LIMIT, is_readable, readable
from testkit.wire.frames import (
    integer,
    long_string,
    nested,
    properties,
    short_string,
    table,
    timestamp,
)

TASK = (b"task", long_string(b"order.created"))
ID = short_string(b"an id")


def content_header(properties: bytes) -> bytes:
    return pack(">HHQ", 60, 0, 4) + properties


def test_a_valid_header_is_returned_unchanged() -> None:
    good = content_header(properties(headers=table([TASK, (b"deep", nested(DEPTH_LIMIT))])))

    assert readable(good) is good


@given(st.binary(max_size=300), st.integers(0, 0xFFFF))
def test_any_bytes_become_readable(data: bytes, flags: int) -> None:
    header = content_header(pack(">H", flags) + data)

    assert is_readable(readable(header))


@given(st.data())
def test_a_valid_header_with_changed_bytes_becomes_readable(data: st.DataObject) -> None:
    good = properties(
        content_type=short_string(b"application/json"),
        headers=table(
            [TASK, (b"deep", nested(3, tables=True, inside=timestamp(1))), (b"n", integer(1))]
        ),
        message_id=ID,
        timestamp=pack(">Q", 1),
    )
    changed = bytearray(good)
    for at in data.draw(st.lists(st.integers(0, len(good) - 1), max_size=5)):
        changed[at] = data.draw(st.integers(0, 255))
    header = content_header(bytes(changed))

    result = readable(header)

    assert is_readable(result)
    # A header that the parser accepts is unchanged, except for a truncated value.
    assert result == header or not is_readable(header) or b"truncated" in result
