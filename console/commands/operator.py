"""The operating system user who runs a command, and the user's reason, recorded with a change."""

import getpass
import os
from collections.abc import Callable
from typing import Any

import click

from console import operator_text


def operator_name() -> str:
    """Return the name of the operating system's user, or the user's number if there is no name."""
    try:
        # The environment may contain another encoding, which the databases do not store.
        return getpass.getuser().encode(errors="replace").decode()
    except (KeyError, OSError):
        # In a container, a user may have a number and no name.
        return f"uid {os.getuid()}"


def reason_option(help_: str, *, required: bool = True) -> Callable[[Any], Any]:
    """Return the option `--reason`, whose text is checked and is as it will be stored."""
    return click.option("--reason", required=required, callback=_checked, help=help_)


def _checked(_ctx: click.Context, _option: click.Parameter, reason: str | None) -> str | None:
    if reason is None:
        return None
    if refused := operator_text.refusal(reason):
        raise click.BadParameter(refused)
    return operator_text.stored(reason)
