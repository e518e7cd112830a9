"""The `orderctl` command: parses arguments, runs one action and prints its result."""

import errno
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import click
from sqlalchemy.exc import DBAPIError

from console.commands.access import recording
from console.commands.access.audit import audit
from console.commands.access.people import people
from console.commands.analytics import analytics
from console.commands.contracts import contracts
from console.commands.database import database
from console.commands.execution import json_document, read_only
from console.commands.execution.completion import completion
from console.commands.health import health
from console.commands.keys import keys
from console.commands.orders import listing as listing
from console.commands.orders import show as show
from console.commands.orders import stuck as stuck
from console.commands.orders.orders import orders
from console.commands.parking import discards as discards
from console.commands.parking import edit as edit
from console.commands.parking import groups as groups
from console.commands.parking import history as history
from console.commands.parking import plans as plans
from console.commands.parking import release as release
from console.commands.parking import triage as triage
from console.commands.parking.parked import parked
from console.commands.pauses import pause, paused, resume
from console.commands.reconcile import reconcile
from console.commands.restore import restore
from console.commands.stock import stock
from console.commands.subscribe import subscribe
from console.commands.table import printable
from console.commands.tls import tls
from console.commands.topology import topology
from console.commands.trace import trace
from console.errors import first_line
from eventbus.errors import ExpectedError

#: Errors of a full or failing disk to which the output is redirected.
_OUTPUT_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO})

_Callback = Callable[[click.Context, click.Parameter, Any], Any] | None


class WrongArguments(click.UsageError):
    """Invalid arguments, reported in one line; click's own exit status, 2, would mean drift."""

    exit_code = 64


@contextmanager
def _errors_in_one_line() -> Iterator[None]:
    try:
        yield
    except (click.exceptions.NoArgsIsHelpError, WrongArguments):
        raise
    except click.UsageError as error:
        hint = f"; see {error.ctx.command_path} --help" if error.ctx else ""
        # click prints each choice on its own line.
        reason = " ".join(error.format_message().split()).rstrip(".")
        raise WrongArguments(printable(reason + hint)) from None
    except ExpectedError as error:
        raise click.ClickException(printable(str(error))) from None
    except DBAPIError as error:
        reason = first_line(error.orig or error)
        raise click.ClickException(printable(f"PostgreSQL: {reason}")) from None
    except OSError as error:
        if error.errno not in _OUTPUT_ERRORS:
            raise
        raise click.ClickException(f"the output cannot be written: {error.strerror}") from None


class _Commands(click.Group):
    """Reports every failed command as one line on stderr, with an exit status other than 0."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Parse the options before the command's name."""
        with _errors_in_one_line():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Parse the remaining arguments and run the command."""
        with _errors_in_one_line():
            return super().invoke(ctx)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@read_only.option
def main(*, read_only: bool) -> None:
    """Operate the order system.

    Settings are read from the environment, and from the dotenv file that ORDERS_ENV_FILE names
    (.run/operator.env by default). Exit status: 0 success, 1 failure, 2 a check found differences
    (such as drift, a breaking change of a contract, or an event type in use), 64 invalid arguments,
    77 refused by the read-only mode. health, reconcile and restore check exit with 1 if they find a
    problem, and reconcile and restore check with 2 if a server could not be reached.
    """
    del read_only  # the commands read it from the context


main.add_command(database)
main.add_command(topology)
main.add_command(stock)
main.add_command(orders)
main.add_command(parked)
main.add_command(tls)
main.add_command(trace)
main.add_command(keys)
main.add_command(health)
main.add_command(pause)
main.add_command(resume)
main.add_command(paused)
main.add_command(reconcile)
main.add_command(restore)
main.add_command(contracts)
main.add_command(analytics)
main.add_command(subscribe)
main.add_command(people)
main.add_command(audit)
main.add_command(completion)
recording.install(main)
# The read-only mode is checked before the audit log, which is in a database.
read_only.install(main)
json_document.install(main)


def _restrict(command: click.Command) -> None:
    """Make every parameter of a command and its subcommands reject unusable values."""
    for parameter in command.params:
        parameter.callback = partial(_usable, then=parameter.callback)
    if isinstance(command, click.Group):
        for subcommand in command.commands.values():
            _restrict(subcommand)


def _usable(context: click.Context, parameter: click.Parameter, given: Any, then: _Callback) -> Any:
    for value in given if isinstance(given, tuple) else (given,):
        # Neither the databases nor the broker can store this character, and it cannot be printed.
        if isinstance(value, str | Path) and not _is_utf8(str(value)):
            raise click.BadParameter("it is not UTF-8", context, parameter)
        # NaN is in every range.
        if isinstance(value, float) and math.isnan(value):
            raise click.BadParameter("it is not a number", context, parameter)
    return then(context, parameter, given) if then else given


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


_restrict(main)

if __name__ == "__main__":
    main()
