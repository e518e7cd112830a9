"""The error of an operator's action, and error texts in one line."""

from eventbus.errors import ExpectedError


class ActionError(ExpectedError):
    """An action failed; the message is one line that names the cause."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or its class if the text is empty."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
