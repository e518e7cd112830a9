"""Values from untrusted messages, in a form that is safe to print, store and compare."""

from typing import Any

import msgspec

#: Maximum number of characters of an id or a name, which is the number of bytes of an AMQP short
#: string.
TEXT_LIMIT = 255

#: Maximum size of a body in bytes. The broker and all services reject larger bodies. The largest
#: event of this system is about 30 kB.
BODY_LIMIT = 256 * 1024


def text(value: object, limit: int = TEXT_LIMIT) -> str:
    """Return any value as printable text of at most `limit` characters.

    Unprintable characters are escaped, except line breaks.
    """
    try:
        whole = value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)
    except Exception:
        # A deeply nested list or a number of 5,000 digits cannot be converted.
        whole = f"<{type(value).__name__}>"
    cut = whole[:limit]
    return cut if cut.isprintable() else "".join(map(_escaped, cut))[:limit]


def storable(value: str) -> str:
    """Return a text without NUL and unpaired surrogates, which PostgreSQL and UTF-8 reject."""
    return value.replace("\0", "").encode(errors="replace").decode()


def decoded(body: bytes | str) -> Any:
    """Return the JSON value of a body; None if it is not JSON or is larger than `BODY_LIMIT`."""
    if len(body) > BODY_LIMIT:
        return None
    try:
        return msgspec.json.decode(body)
    except Exception:
        # Decoding errors are not the only errors: 1,000 brackets exceed Python's recursion limit.
        return None


def envelope(body: bytes | str) -> dict[str, Any]:
    """Return the envelope in the body of a message, or an empty envelope."""
    try:
        event = decoded(body)[1]["event"]
    except (LookupError, TypeError):
        return {}
    return event if isinstance(event, dict) else {}


def _escaped(character: str) -> str:
    if character.isprintable() or character == "\n":
        return character
    return character.encode("unicode_escape").decode()
