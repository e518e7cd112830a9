"""`orderctl stock`: what is in the warehouse."""

import json
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from console import stock_file
from console.actions import stock as actions
from console.settings import DatabaseSettings, load_operator
from inventory_worker.stock import MAX_ON_HAND, Level

_pieces = click.IntRange(0, MAX_ON_HAND)


@click.group()
def stock() -> None:
    """Show and change what is in stock."""


@stock.command("set", epilog="Example: orderctl stock set SKU-1 100")
@click.argument("sku")
@click.argument("pieces", metavar="N", type=_pieces)
def set_on_hand(sku: str, pieces: int) -> None:
    """Set to N what is on hand of a SKU, new or known."""
    settings = load_operator(DatabaseSettings)
    actions.set_on_hand(settings, {sku: pieces})
    _echo(actions.show(settings, sku)[0])


@stock.command(epilog="Example: orderctl stock add SKU-1 20")
@click.argument("sku")
@click.argument("pieces", metavar="N", type=click.IntRange(1, MAX_ON_HAND))
def add(sku: str, pieces: int) -> None:
    """Add N pieces to what is on hand of a SKU, new or known."""
    _echo(actions.add(load_operator(DatabaseSettings), sku, pieces))


@stock.command(epilog="Example: orderctl stock show SKU-1 --json")
@click.argument("sku", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def show(sku: str | None, *, as_json: bool) -> None:
    """Show what is on hand, reserved and available, of one SKU or of all."""
    levels = actions.show(load_operator(DatabaseSettings), sku)
    if as_json:
        click.echo(json.dumps([_document(level) for level in levels], indent=2))
        return
    table = Table("SKU", box=None)
    for column in ("on hand", "reserved", "available"):
        table.add_column(column, justify="right")
    for level in levels:
        table.add_row(
            level.sku, *(str(n) for n in (level.on_hand, level.reserved, level.available))
        )
    Console(soft_wrap=True).print(table)


@stock.command("import", epilog="Example: orderctl stock import deliveries.csv")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def import_file(file: Path) -> None:
    """Set what is on hand from a CSV file with the columns sku,on_hand.

    All of the file is applied, or nothing of it.
    """
    settings = load_operator(DatabaseSettings)
    pieces = stock_file.read(file)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("Importing", total=len(pieces))
        actions.set_on_hand(
            settings, pieces, progress=lambda done: bar.update(task, completed=done)
        )
    click.echo(f"stock: {len(pieces)} SKUs set from {file}")


def _echo(level: Level) -> None:
    click.echo(
        f"{level.sku}: {level.on_hand} on hand, {level.reserved} reserved, "
        f"{level.available} available"
    )


def _document(level: Level) -> dict[str, str | int]:
    return {
        "sku": level.sku,
        "on_hand": level.on_hand,
        "reserved": level.reserved,
        "available": level.available,
    }
