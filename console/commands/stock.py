"""`orderctl stock`: the stock in the warehouse."""

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from console.actions import stock as actions
from console.actions import stock_import
from console.actions.stock import Change
from console.commands.execution.effect import changes, shows
from console.commands.execution.json_document import documented, report
from console.commands.operator import operator_name
from console.commands.table import print_line, print_table, printable
from console.operator_text import checked
from console.settings import DatabaseSettings, load_operator
from console.stock import csv_file
from console.stock import report as texts
from inventory_worker.movements import Note
from inventory_worker.stock import MAX_ON_HAND, correct, count, receive

#: Maximum number of characters of a document number.
REFERENCE_LIMIT = 100

#: Maximum number of differences that `check` lists.
_DIFFERENCES = 100

#: The effect of a command that changes the stock of a SKU.
_goods = changes(service="inventory", subject="sku", details=("pieces", "reason", "reference"))

_changed = documented("level", "reference", "is_new", "missing", "orders")

_pieces = click.IntRange(0, MAX_ON_HAND)
_some_pieces = click.IntRange(1, MAX_ON_HAND)


def _note_options(default: str | None) -> Callable[[Any], Any]:
    """Add the options of a note; the reason is required if it has no default."""

    def add(command: Any) -> Any:
        reason = click.option(
            "--reason",
            default=default,
            required=default is None,
            show_default=True,
            help="Reason for the change.",
        )
        reference = click.option(
            "--reference",
            metavar="DOCUMENT",
            help="Document number. Repeating it for the same SKU has no effect.",
        )
        return reason(reference(command))

    return add


@click.group()
def stock() -> None:
    """Show and change stock levels."""


@stock.command("receive", epilog="Example: orderctl stock receive SKU-1 20 --reference DN-1007")
@_goods
@_changed
@click.argument("sku")
@click.argument("pieces", metavar="QTY", type=_some_pieces)
@_note_options("goods received")
def receive_goods(sku: str, pieces: int, reason: str, reference: str | None) -> None:
    """Add QTY received units to the stock on hand of a new or existing SKU."""
    _change(receive, sku, pieces, reason, reference)


@stock.command("count", epilog='Example: orderctl stock count SKU-1 97 --reason "annual count"')
@_goods
@_changed
@click.argument("sku")
@click.argument("pieces", metavar="QTY", type=_pieces)
@_note_options("counted")
def count_goods(sku: str, pieces: int, reason: str, reference: str | None) -> None:
    """Set the stock on hand of a SKU to QTY counted units, regardless of reservations.

    Lists the orders that can no longer be fulfilled, newest first. Ship all orders that have left
    before you count.
    """
    _change(count, sku, pieces, reason, reference)


@stock.command(
    "correct",
    context_settings={"ignore_unknown_options": True},
    epilog='Example: orderctl stock correct SKU-1 -3 --reason "broken in the warehouse"',
)
@_goods
@_changed
@click.argument("sku")
@click.argument("pieces", metavar="QTY", type=click.IntRange(-MAX_ON_HAND, MAX_ON_HAND))
@_note_options(None)
def correct_level(sku: str, pieces: int, reason: str, reference: str | None) -> None:
    """Change the stock on hand of a SKU by QTY units, more or (with a minus) fewer."""
    _change(correct, sku, pieces, reason, reference)


@stock.command("set", epilog="Example: orderctl stock set SKU-1 100")
@_goods
@_changed
@click.argument("sku")
@click.argument("pieces", metavar="N", type=_pieces)
def set_on_hand(sku: str, pieces: int) -> None:
    """Set the stock on hand of a new or existing SKU to N: a count without a reason."""
    _change(count, sku, pieces, "set", None)


@stock.command(epilog="Example: orderctl stock add SKU-1 20")
@_goods
@_changed
@click.argument("sku")
@click.argument("pieces", metavar="N", type=_some_pieces)
def add(sku: str, pieces: int) -> None:
    """Add N units to the stock on hand of a new or existing SKU: goods without a document."""
    _change(receive, sku, pieces, "added", None)


@stock.command(epilog="Example: orderctl stock show SKU-1 --json")
@shows
@click.argument("sku", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def show(sku: str | None, *, as_json: bool) -> None:
    """Show the stock on hand, reserved and available, of one SKU or of all."""
    levels = actions.show(load_operator(DatabaseSettings), sku)
    if as_json:
        click.echo(json.dumps([texts.document(level) for level in levels], indent=2))
        return
    print_table(texts.LEVEL_COLUMNS, texts.levels(levels), numbers=texts.NUMBERS)


@stock.command("movements", epilog="Example: orderctl stock movements SKU-1 --limit 100")
@shows
@click.argument("sku")
@click.option(
    "--limit",
    type=click.IntRange(1, 1000),
    default=50,
    show_default=True,
    help="Maximum number of movements.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def show_movements(sku: str, limit: int, *, as_json: bool) -> None:
    """Show the newest movements of a SKU: received, shipped, reserved, released and counted."""
    movements = actions.moved(load_operator(DatabaseSettings), sku, limit)
    if as_json:
        click.echo(json.dumps([texts.movement(movement) for movement in movements], indent=2))
        return
    print_table(texts.MOVEMENT_COLUMNS, texts.movements(movements), numbers=texts.NUMBERS)


@stock.command("check", epilog="Example: orderctl stock check")
@shows
@documented("differences")
def check() -> None:
    """Compare each level with the sum of its movements. The command reads all movements.

    Exits with status 2 if one differs: the tables were changed by hand.
    """
    differences = actions.differences(load_operator(DatabaseSettings), _DIFFERENCES)
    report(differences=[texts.difference_document(difference) for difference in differences])
    for difference in differences:
        print_line(texts.difference(difference))
    if differences:
        raise click.exceptions.Exit(2)
    click.echo("stock: each level is the sum of its movements")


@stock.command("import", epilog="Example: orderctl stock import count.csv --reference COUNT-7")
@changes(subject="file", service="inventory", details=("reason", "reference"))
@documented("reference", "skus", "changed", "short", "examples")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--reason", default="counted", show_default=True, help="Reason for the change.")
@click.option(
    "--reference",
    metavar="DOCUMENT",
    help="Document of the count. To resume a failed import, repeat it with the same reference.",
)
def import_file(file: Path, reason: str, reference: str | None) -> None:
    """Set the stock on hand from a CSV file with the columns sku,on_hand.

    A file with an error changes nothing. The import runs in short transactions; if one fails, the
    earlier ones stay.
    """
    settings = load_operator(DatabaseSettings)
    pieces = csv_file.read(file)
    note = _note(reason, reference or f"import-{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}")
    report(reference=note.reference)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        # The description is markup.
        description = f"Importing as {escape(printable(str(note.reference)))}"
        task = bar.add_task(description, total=len(pieces))
        done = stock_import.import_pieces(
            settings, pieces, note, progress=lambda done: bar.update(task, completed=done)
        )
    report(**texts.import_document(done))
    for line in texts.imported(done, file, note):
        print_line(line)


def _change(kind: Change, sku: str, pieces: int, reason: str, reference: str | None) -> None:
    note = _note(reason, reference)
    done = actions.change(load_operator(DatabaseSettings), kind, sku, pieces, note)
    report(**texts.change_document(done, note))
    for line in texts.changed(done, note):
        print_line(line)


def _note(reason: str, reference: str | None) -> Note:
    if reference is not None:
        reference = checked("--reference", reference, REFERENCE_LIMIT)
    return Note(reason=checked("--reason", reason), reference=reference, entered_by=operator_name())
