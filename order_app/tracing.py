"""W3C trace context: the id that one request's logs and events share in every service."""

import re
import secrets

_TRACEPARENT = re.compile(
    "(?!ff)[0-9a-f]{2}-(?!0{32})(?P<trace>[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)


def accept(header: str | None) -> str:
    """Return a request's `traceparent` header if it is valid, or else one for a new trace."""
    if header and _TRACEPARENT.fullmatch(header):
        return header
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"


def trace_id(traceparent: str | None) -> str | None:
    """Return the trace's id, or None if there is no valid one."""
    match = _TRACEPARENT.fullmatch(traceparent or "")
    return match["trace"] if match else None
