"""`orderctl keys`: who may use the API, and for what."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import click
from rich.console import Console
from rich.table import Table

from console.actions import keys as actions
from console.errors import ActionError
from console.settings import DatabaseSettings, load_operator
from order_app.storage.api_keys import ApiKey, Scope


@click.group()
def keys() -> None:
    """Make, show and revoke the keys to the API."""


_scopes = click.option(
    "--scope",
    "scopes",
    type=click.Choice([str(scope) for scope in Scope]),
    multiple=True,
    required=True,
    help="May be repeated.",
)


@keys.command(epilog='Example: orderctl keys create "web shop" --scope orders:write')
@click.argument("name")
@_scopes
@click.option(
    "--file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the key into this new file, for its owner's eyes only, and not on the screen.",
)
def create(name: str, scopes: tuple[str, ...], *, file: Path | None) -> None:
    """Make a key for NAME and print it, this once: it is stored as a hash."""
    settings = load_operator(DatabaseSettings)
    wanted = [Scope(scope) for scope in scopes]
    if file is None:
        click.echo(actions.create(settings, name, wanted))
    else:
        # The file first: a key that cannot be written down must not be made.
        with _new_file(file) as output:
            output.write(actions.create(settings, name, wanted) + "\n")
        click.echo(f"the key of {name} is in {file}")


@keys.command(epilog="Example: orderctl keys register prometheus --scope ops --file key")
@click.argument("name")
@_scopes
@click.option(
    "--file",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="Holds the key, in one line.",
)
def register(name: str, scopes: tuple[str, ...], *, file: Path) -> None:
    """Let the API take the key in a file as NAME's; a revoked one stays revoked."""
    settings = load_operator(DatabaseSettings)
    try:
        key = file.read_text().rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it holds no key"
        raise ActionError(f"cannot read {file}: {reason}") from None
    try:
        new = actions.register(settings, key, name, [Scope(scope) for scope in scopes])
    except ActionError as error:
        raise ActionError(f"{file}: {error}") from None
    click.echo(f"the key of {name} is {'registered' if new else 'known'}")


@keys.command("list", epilog="Example: orderctl keys list --json")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def list_keys(*, as_json: bool) -> None:
    """Show every key there ever was; never the key itself."""
    found = actions.show(load_operator(DatabaseSettings))
    if as_json:
        click.echo(json.dumps([_document(key) for key in found], indent=2))
        return
    table = Table("Prefix", "Name", "Scopes", "Created", "Last used", "Revoked", box=None)
    for key in found:
        row = _document(key) | {"scopes": _shown_scopes(key)}
        del row["unknown_scopes"]
        table.add_row(*(str(cell or "-") for cell in row.values()))
    console = Console()
    # A pipe gets whole lines, a terminal gets lines that fit.
    Console(width=None if console.is_terminal else 10_000, markup=False).print(table)


@keys.command(epilog="Example: orderctl keys revoke 1f0a9c3e")
@click.argument("prefix")
def revoke(prefix: str) -> None:
    """Make a key useless for ever; within seconds, see API_KEY_LIFETIME."""
    key = actions.revoke(load_operator(DatabaseSettings), prefix)
    click.echo(f"{key.prefix}: revoked, was the key of {key.name}")


@contextmanager
def _new_file(path: Path) -> Iterator[TextIO]:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise ActionError(f"cannot write {path}: {error.strerror}") from None
    try:
        with os.fdopen(descriptor, "w") as file:
            yield file
    except BaseException:
        path.unlink()
        raise


def _shown_scopes(key: ApiKey) -> str:
    unknown = [f"{scope} (unknown)" for scope in sorted(key.unknown_scopes)]
    return " ".join([*sorted(key.scopes), *unknown])


def _document(key: ApiKey) -> dict[str, Any]:
    return {
        "prefix": key.prefix,
        "name": key.name,
        "scopes": sorted(key.scopes),
        "unknown_scopes": sorted(key.unknown_scopes),
        "created_at": key.created_at.isoformat(timespec="seconds"),
        "last_used_on": key.last_used_on and key.last_used_on.isoformat(),
        "revoked_at": key.revoked_at and key.revoked_at.isoformat(timespec="seconds"),
    }
