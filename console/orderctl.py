"""The `orderctl` command: parses arguments, runs one action and prints its result."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from sqlalchemy.exc import DBAPIError

from console.commands.analytics import analytics
from console.commands.contracts import contracts
from console.commands.database import database
from console.commands.health import health
from console.commands.keys import keys
from console.commands.orders import orders
from console.commands.parking import discards as discards
from console.commands.parking import groups as groups
from console.commands.parking import plans as plans
from console.commands.parking.parked import parked
from console.commands.reconcile import reconcile
from console.commands.stock import stock
from console.commands.subscribe import subscribe
from console.commands.tls import tls
from console.commands.topology import topology
from console.commands.trace import trace
from console.errors import first_line
from eventbus.errors import ExpectedError


class WrongArguments(click.UsageError):
    """Invalid arguments, reported in one line; click's own exit status, 2, means drift here."""

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
        raise WrongArguments(reason + hint) from None
    except ExpectedError as error:
        raise click.ClickException(str(error)) from None
    except DBAPIError as error:
        raise click.ClickException(f"PostgreSQL: {first_line(error.orig or error)}") from None


class _Commands(click.Group):
    """Reports every failed command as one line on stderr, with an exit status other than 0."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Parse the options before the command's name."""
        with _errors_in_one_line():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Parse the rest and run the command."""
        with _errors_in_one_line():
            return super().invoke(ctx)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Operate the order system.

    Settings are read from the environment, and from the dotenv file that ORDERS_ENV_FILE names
    (.run/operator.env by default). Exit status: 0 success, 1 failure, 2 a check found differences
    (such as drift, a breaking change of a contract, or an event type in use), 64 invalid arguments.
    health and reconcile exit with 1 if they find a problem.
    """


main.add_command(database)
main.add_command(topology)
main.add_command(stock)
main.add_command(orders)
main.add_command(parked)
main.add_command(tls)
main.add_command(trace)
main.add_command(keys)
main.add_command(health)
main.add_command(reconcile)
main.add_command(contracts)
main.add_command(analytics)
main.add_command(subscribe)

if __name__ == "__main__":
    main()
