"""The exit status of a check that could not reach a server."""

from collections.abc import Iterator
from contextlib import contextmanager

import click
from sqlalchemy.exc import DBAPIError

from console.errors import ActionError, first_line


class Unreachable(click.ClickException):
    """A server could not be reached, which has a different exit status than a finding."""

    exit_code = 2


@contextmanager
def reached() -> Iterator[None]:
    """Raise `Unreachable` for the errors of the servers in the block."""
    try:
        yield
    except ActionError as error:
        raise Unreachable(str(error)) from None
    except DBAPIError as error:
        raise Unreachable(f"PostgreSQL: {first_line(error.orig or error)}") from None
