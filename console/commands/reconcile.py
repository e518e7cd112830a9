"""`orderctl reconcile`: accounts for every event, and names those that are missing."""

import json
import time
from datetime import UTC, datetime, timedelta

import click
from rich.console import Console
from rich.table import Table

from console.commands.execution.effect import changes
from console.commands.reached import reached
from console.commands.table import print_line
from console.commands.times import Age
from console.ledger import agreement, reconciliation
from console.ledger import repair as repairs
from console.ledger.account import Place
from console.ledger.books import Books
from console.ledger.reconciliation import PAUSE, SEARCH, Effort
from console.ledger.report import Report
from console.settings import LedgerSettings, load_operator

#: Seconds between two lines of progress.
_INTERVAL = 5.0

#: The places that are shown even if they contain no event.
_ALWAYS = (Place.HANDLED, Place.IN_FLIGHT, Place.PARKED, Place.MISSING)


@click.command(epilog="Example: orderctl reconcile --since 1h --json")
@changes(flag="repair")
@click.option("--since", type=Age(), help="Maximum age of the events; default: all that are kept.")
@click.option(
    "--wait",
    type=click.FloatRange(20, 600),
    default=SEARCH,
    show_default=True,
    help="Seconds to search the queues for events that are not handled.",
)
@click.option(
    "--pause",
    type=click.FloatRange(0, 10),
    default=PAUSE,
    show_default=True,
    help="Seconds between two pages of 1,000 events.",
)
@click.option(
    "--repair", is_flag=True, help="Publish missing events again, to the service that lacks them."
)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def reconcile(
    ctx: click.Context,
    *,
    since: timedelta | None,
    wait: float,
    pause: float,
    repair: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Determine where each event is; exit with status 1 if one is missing or services disagree.

    Each event of each outbox is looked up for each service that consumes it: in its inbox, its
    queues, its parking lot and the stream. An event is missing only if it is proven to be in none
    of them. Retries of a service with open events are held for up to --wait seconds.

    Exit status 2: the broker or a database could not be reached, or a repair was interrupted.
    """
    settings = load_operator(LedgerSettings)
    start = datetime.now(UTC) - since if since else None
    with reached(), Books.opened(settings) as books:
        accounts = reconciliation.reconcile(
            settings,
            books,
            since=start,
            effort=Effort(pause=pause, search=wait),
            report=_Progress(),
        )
        disagreements = agreement.compare(settings, books, since=start, pause=pause)
        report = Report(accounts=accounts, disagreements=disagreements)
        if repair and report.missing:
            _confirm(report, yes=yes)
            for published in repairs.republish(settings, books, accounts):
                report.repaired.append(published)
                event = published.event
                click.echo(f"{published.service}: {event.type} {event.id} published", err=True)
    if as_json:
        click.echo(json.dumps(report.document(), indent=2))
    else:
        _print(report)
    if not report.is_clear:
        ctx.exit(1)


def _confirm(report: Report, *, yes: bool) -> None:
    if not yes:
        question = f"publish {report.missing} missing events again?"
        click.confirm(question, abort=True, err=True)


class _Progress:
    """Prints the number of events read, at intervals."""

    def __init__(self) -> None:
        self._printed = time.monotonic()

    def __call__(self, read: int) -> None:
        now = time.monotonic()
        if now - self._printed > _INTERVAL:
            self._printed = now
            click.echo(f"{read} events read", err=True)


def _print(report: Report) -> None:
    counts = [account.counts for account in report.accounts]
    shown = [place for place in Place if place in _ALWAYS or any(c[place] for c in counts)]
    table = Table("service", box=None, pad_edge=False)
    for place in shown:
        table.add_column(place.value, justify="right")
    for account in report.accounts:
        table.add_row(account.service.name, *(str(account.counts[place]) for place in shown))
    terminal = Console()
    # A pipe receives whole lines.
    Console(width=None if terminal.is_terminal else 200, highlight=False).print(table)
    for line in report.lines():
        print_line(line)
    if report.is_clear and not report.repaired:
        result = "all events are accounted for"
        if not report.is_conclusive:
            result = "no event is proven to be missing; run again to examine the others"
        click.echo(f"{result}; {report.disagreements.orders} orders agree")
