"""The `orderctl` command: parses arguments, runs one action, prints what it tells."""

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
from console.commands.parked import parked
from console.commands.stock import stock
from console.commands.subscribe import subscribe
from console.commands.tls import tls
from console.commands.topology import topology
from console.commands.trace import trace
from console.errors import first_line
from eventbus.errors import ExpectedError


class WrongArguments(click.UsageError):
    """Told in one line; click's own status, 2, would look like drift."""

    exit_code = 64


@contextmanager
def _told_in_one_line() -> Iterator[None]:
    try:
        yield
    except (click.exceptions.NoArgsIsHelpError, WrongArguments):
        raise
    except click.UsageError as error:
        hint = f"; see {error.ctx.command_path} --help" if error.ctx else ""
        # click puts a choice on lines of their own.
        reason = " ".join(error.format_message().split()).rstrip(".")
        raise WrongArguments(reason + hint) from None
    except ExpectedError as error:
        raise click.ClickException(str(error)) from None
    except DBAPIError as error:
        raise click.ClickException(f"PostgreSQL: {first_line(error.orig or error)}") from None


class _Commands(click.Group):
    """Ends every failed command with one line on stderr and a status that is not 0."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Parse the options before the command's name."""
        with _told_in_one_line():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Parse the rest and run the command."""
        with _told_in_one_line():
            return super().invoke(ctx)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Operate the order system.

    Settings come from the environment, and from the dotenv file that ORDERS_ENV_FILE names
    (.run/operator.env unless set). Exit status: 0 done, 1 failed, 2 the broker is not as the code
    says, a contract's change is breaking or a type in use, 64 wrong arguments.
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
main.add_command(contracts)
main.add_command(analytics)
main.add_command(subscribe)

if __name__ == "__main__":
    main()
