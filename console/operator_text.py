"""The texts that operators enter, such as the reason of an action."""

from console.errors import ActionError
from eventbus.messaging.untrusted import storable

#: Maximum number of characters of the reason of an action.
REASON_LIMIT = 500


def stored(text: str) -> str:
    """Return a text as it is stored: without spaces around it, and without invalid characters."""
    return storable(text).strip()


def refusal(text: str, limit: int = REASON_LIMIT) -> str | None:
    """Return why a text is not accepted, as the predicate of a sentence, or None."""
    is_valid = 0 < len(stored(text)) <= limit
    return None if is_valid else f"must have 1 to {limit} characters"


def checked(field: str, text: str, limit: int = REASON_LIMIT) -> str:
    """Return a text as it is stored. Raises `ActionError` with the field if it is not accepted."""
    if refused := refusal(text, limit):
        raise ActionError(f"{field}: {refused}")
    return stored(text)
