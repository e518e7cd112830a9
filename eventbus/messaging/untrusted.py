"""Values of messages, which anyone may have written, made safe to print, store and compare."""

from typing import Any

import msgspec

#: Characters of an id or a name: as many as AMQP's short strings have bytes.
TEXT_LIMIT = 255

#: Bytes of a body. No service accepts a larger one, and the broker is configured to refuse it. The
#: largest event of this system has about 30 kB.
BODY_LIMIT = 256 * 1024


def text(value: object, limit: int = TEXT_LIMIT) -> str:
    """Return any value as text of at most `limit` characters, of which each can be printed.

    Others are escaped, but for line breaks.
    """
    try:
        whole = value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)
    except Exception:
        # A deep list has no text, nor has a number of 5,000 digits.
        whole = f"<{type(value).__name__}>"
    cut = whole[:limit]
    return cut if cut.isprintable() else "".join(map(_escaped, cut))[:limit]


def storable(value: str) -> str:
    """Return a text without what PostgreSQL or UTF-8 cannot hold: NUL, and halves of surrogates."""
    return value.replace("\0", "").encode(errors="replace").decode()


def decoded(body: bytes | str) -> Any:
    """Return what a body says in JSON; None if it says nothing, or is larger than `BODY_LIMIT`."""
    if len(body) > BODY_LIMIT:
        return None
    try:
        return msgspec.json.decode(body)
    except Exception:
        # Not only errors of decoding: 1,000 brackets are beyond Python's recursion limit.
        return None


def envelope(body: bytes | str) -> dict[str, Any]:
    """Return the envelope in the body of a message; an empty one if there is none."""
    try:
        found = decoded(body)[1]["event"]
    except (LookupError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def _escaped(character: str) -> str:
    if character.isprintable() or character == "\n":
        return character
    return character.encode("unicode_escape").decode()
