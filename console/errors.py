"""Why an operator's action failed, in one line."""

from eventbus.errors import ExpectedError


class ActionError(ExpectedError):
    """The action failed; the message says in one line what to look at."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or its class when it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
