"""One line of output for each step that takes a while."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import click


@contextmanager
def step(text: str) -> Iterator[None]:
    """Show a step while it runs, then its outcome and its duration."""
    start = time.monotonic()
    click.echo(f"  {text} … ", nl=False)
    try:
        yield
    except BaseException as error:
        click.echo("interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
        raise
    click.echo(f"ok {time.monotonic() - start:.0f}s")
