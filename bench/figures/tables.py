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
    """Return the date, the number and the duration of a part's runs."""
    options = figures["parts"][part]
    repeat = options.get("repeat", 1)
    runs = "1 run" if repeat == 1 else f"{repeat} runs"
    return f"{str(options['date'])[:10]}, {runs} of {options['seconds']} s"


def with_table(document: str, name: str, table: str) -> str:
    """Return a document with this table between the two comments with this name."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, _, rest = document.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n{table}\n{end}{after}"
