"""Tables and lines for a terminal or a pipe; their texts may come from an unknown publisher."""

from collections.abc import Collection, Iterable, Sequence

import click
from rich.console import Console
from rich.table import Table


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: Collection[str] = ()
) -> None:
    """Print a table; a cell that is None is a dash. The columns `numbers` are aligned right."""
    table = Table(box=None)
    for column in columns:
        table.add_column(column, justify="right" if column in numbers else "left")
    for row in rows:
        table.add_row(*("-" if cell is None else printable(str(cell)) for cell in row))
    console = Console()
    # A pipe receives complete lines, and a terminal receives lines that fit. Texts are not
    # interpreted as markup.
    width = None if console.is_terminal else 10_000
    Console(width=width, markup=False, emoji=False).print(table)


def print_line(text: object, *, err: bool = False) -> None:
    """Print one line, on stderr if `err`, without characters that control the terminal."""
    click.echo(printable(str(text)), err=err)


def printable(text: str) -> str:
    """Return a text that cannot control the terminal: in one line, without unprintable characters.

    Other characters become spaces.
    """
    return "".join(character if character.isprintable() else " " for character in text)
