"""`orderctl keys`: API keys and their scopes."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import click

from console.actions import keys as actions
from console.commands.execution.effect import changes, shows
from console.commands.execution.json_document import documented, report
from console.commands.table import print_line, print_table
from console.errors import ActionError
from console.settings import DatabaseSettings, load_operator
from order_app.storage.api_keys import ApiKey, Scope


@click.group()
def keys() -> None:
    """Create, list and revoke API keys."""


_scopes = click.option(
    "--scope",
    "scopes",
    type=click.Choice([str(scope) for scope in Scope]),
    multiple=True,
    required=True,
    help="Scope to grant; can be repeated.",
)


@keys.command(epilog='Example: orderctl keys create "web shop" --scope orders:write')
@changes(subject="name", service="order", details=("scopes",))
@documented("name", "scopes", "key", "file")
@click.argument("name")
@_scopes
@click.option(
    "--file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the key to this new file, readable only by its owner, instead of printing it.",
)
def create(name: str, scopes: tuple[str, ...], *, file: Path | None) -> None:
    """Create a key for NAME and print it once: only its hash is stored."""
    settings = load_operator(DatabaseSettings)
    granted = [Scope(scope) for scope in scopes]
    report(name=name, scopes=granted, file=file and str(file))
    if file is None:
        key = actions.create(settings, name, granted)
        report(key=key)
        click.echo(key)
    else:
        # The file is opened first, because a key that cannot be written must not be created.
        with _new_file(file) as output:
            output.write(actions.create(settings, name, granted) + "\n")
        print_line(f"key of {name} written to {file}")


@keys.command(epilog="Example: orderctl keys register prometheus --scope ops --file key")
@changes(subject="name", service="order", details=("scopes",))
@documented("name", "scopes", "is_new")
@click.argument("name")
@_scopes
@click.option(
    "--file",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="File that contains the key, on one line.",
)
def register(name: str, scopes: tuple[str, ...], *, file: Path) -> None:
    """Register the key in a file as the key of NAME; a revoked key stays revoked."""
    settings = load_operator(DatabaseSettings)
    try:
        key = file.read_text().rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it does not contain a key"
        raise ActionError(f"cannot read {file}: {reason}") from None
    try:
        new = actions.register(settings, key, name, [Scope(scope) for scope in scopes])
    except ActionError as error:
        raise ActionError(f"{file}: {error}") from None
    report(name=name, scopes=list(scopes), is_new=new)
    print_line(f"key of {name} {'registered' if new else 'already registered'}")


@keys.command("list", epilog="Example: orderctl keys list --json")
@shows
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def list_keys(*, as_json: bool) -> None:
    """List every key that was ever created, without its secret."""
    api_keys = actions.show(load_operator(DatabaseSettings))
    if as_json:
        click.echo(json.dumps([_document(key) for key in api_keys], indent=2))
        return
    columns = ("Prefix", "Name", "Scopes", "Created", "Last used", "Revoked")
    print_table(columns, map(_cells, api_keys))


@keys.command(epilog="Example: orderctl keys revoke 1f0a9c3e")
@changes(subject="prefix", service="order")
@documented("key")
@click.argument("prefix")
def revoke(prefix: str) -> None:
    """Revoke a key permanently; this takes effect within seconds, see API_KEY_LIFETIME."""
    key = actions.revoke(load_operator(DatabaseSettings), prefix)
    report(key=_document(key))
    print_line(f"{key.prefix}: key of {key.name} revoked")


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


def _cells(key: ApiKey) -> list[object]:
    row = _document(key) | {"scopes": _shown_scopes(key) or None}
    del row["unknown_scopes"]
    return list(row.values())


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
