"""The exception of this package."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

#: A pattern of a line that explains a failure.
FAILURE = re.compile(r"error|fatal|cannot|could not|denied|setting ", re.IGNORECASE)


class Problem(click.ClickException):
    """A failure and its remedy, in one line; the command exits with status 1."""

    def format_message(self) -> str:
        """Return the message on one line."""
        return " ".join(self.message.split())


@contextmanager
def interruptible(advice: str) -> Iterator[None]:
    """Turn Ctrl-C in the block into a `Problem` with advice on how to continue."""
    try:
        yield
    except KeyboardInterrupt:
        raise Problem(f"interrupted; {advice}") from None


def last_words(log: Path) -> str:
    """Return the line at the end of a log that best explains a failure, or an empty string."""
    try:
        lines = log.read_text(errors="replace").splitlines()[-30:]
    except OSError:
        return ""
    not_empty = [line.strip()[:200] for line in lines if line.strip()]
    failures = [line for line in not_empty if FAILURE.search(line)]
    return (failures or not_empty or [""])[-1]
