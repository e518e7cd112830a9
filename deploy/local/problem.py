"""The one error of this package."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

#: What a line that explains a failure has in it.
FAILURE = re.compile(r"error|fatal|cannot|could not|denied|setting ", re.IGNORECASE)


class Problem(click.ClickException):
    """What went wrong and what to do about it, in one line; ends the command with status 1."""

    def format_message(self) -> str:
        """Return the message on one line."""
        return " ".join(self.message.split())


@contextmanager
def interruptible(advice: str) -> Iterator[None]:
    """Turn Ctrl-C in the block into a `Problem` that says how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        raise Problem(f"interrupted; {advice}") from None


def last_words(log: Path) -> str:
    """Return the line at a log's end that says most about a failure, or an empty string."""
    try:
        lines = log.read_text(errors="replace").splitlines()[-30:]
    except OSError:
        return ""
    told = [line.strip()[:200] for line in lines if line.strip()]
    failures = [line for line in told if FAILURE.search(line)]
    return (failures or told or [""])[-1]
