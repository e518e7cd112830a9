"""The error of an operator's action, and error texts in one line."""

from sqlalchemy.exc import DBAPIError

from eventbus.errors import ExpectedError


class ActionError(ExpectedError):
    """An action has failed. The message is one line that names the cause."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or its class if the text is empty."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def problem(error: BaseException) -> str:
    """Return an action's or a database's problem in one line, or the class of any other error."""
    match error:
        case DBAPIError():
            return f"PostgreSQL: {first_line(error.orig or error)}"
        case ExpectedError():
            return str(error)
    return type(error).__name__
