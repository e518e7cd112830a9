"""Tables on a terminal or a pipe, whose cells may come from a foreign publisher."""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table; a cell that is None is a dash."""
    table = Table(*columns, box=None)
    for row in rows:
        table.add_row(*("-" if cell is None else printable(str(cell)) for cell in row))
    console = Console()
    # A pipe receives whole lines, a terminal receives lines that fit.
    Console(width=None if console.is_terminal else 10_000, markup=False).print(table)


def printable(text: str) -> str:
    """Return a text that cannot control the terminal: in one line, without unprintable characters.

    Other characters become spaces.
    """
    return "".join(character if character.isprintable() else " " for character in text)
