"""Tables of the documents, in Markdown."""

from collections.abc import Iterable, Sequence
from typing import Any

NONE = "Not measured yet."


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table, or `NONE` if it has no rows."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    if not lines:
        return NONE
    return "\n".join(["| " + " | ".join(head) + " |", "| --- " * len(head) + "|", *lines])


def how(figures: dict[str, Any], part: str) -> str:
    """Return the date and the options of a part's measurement."""
    options = dict(figures["parts"][part])
    day = str(options.pop("date"))[:10]
    return ", ".join([day, *(f"{name} {value}" for name, value in sorted(options.items()))])


def with_table(document: str, name: str, table: str) -> str:
    """Return a document with this table between the two comments with this name."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, _, rest = document.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n{table}\n{end}{after}"
