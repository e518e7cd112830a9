"""The documents of the repository, and the parts of their Markdown."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from deploy.local import REPOSITORY

_SKIPPED = {"node_modules", "__pycache__"}


def files(*suffixes: str) -> list[Path]:
    """Return the files with these suffixes, relative to the repository."""
    found = list[Path]()
    for directory, directories, names in os.walk(REPOSITORY):
        # Hidden directories contain the data of servers that other tests change at the same time.
        directories[:] = [name for name in directories if name not in _SKIPPED and name[0] != "."]
        paths = (Path(directory, name) for name in names if name[0] != ".")
        found += [path.relative_to(REPOSITORY) for path in paths if path.suffix in suffixes]
    return sorted(found)


def documents() -> list[Path]:
    """Return all documents."""
    return files(".md")


def text(document: Path | str) -> str:
    """Return the whole text of a document."""
    return (REPOSITORY / document).read_text(encoding="utf-8")


def prose(document: Path) -> str:
    """Return the text of a document without its code blocks."""
    return re.sub(r"^```.*?^```$", "", text(document), flags=re.MULTILINE | re.DOTALL)


def section(document: str, heading: str) -> str:
    """Return the text under a heading."""
    _, _, rest = text(document).partition(f"\n{heading}\n")
    level = heading.split()[0]
    assert rest, f"{document} has no heading {heading!r}"
    return re.split(rf"^#{{1,{len(level)}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def rows(table: str) -> Iterator[list[str]]:
    """Yield the cells of each row of a table, the heading included."""
    for line in table.splitlines():
        if line.startswith("|"):
            # A pipe inside a cell is escaped.
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            if not set("".join(cells)) <= set("-: "):
                yield cells


def path_of_an_order() -> list[tuple[str, str]]:
    """Return the file and the function of each step in the table of the README."""
    _, *steps = rows(section("README.md", "## The path of one order"))
    return [(quoted(file)[0], quoted(function)[0]) for _, file, function in steps]


def quoted(cell: str) -> list[str]:
    """Return the words of a cell that are marked as code."""
    return re.findall(r"`([^`]+)`", cell)
