"""`orderctl keys` on a real database."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from console.orderctl import main
from order_app.storage import api_keys


def orderctl(env: dict[str, str], *arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, env=env)


def listed(env: dict[str, str]) -> list[dict[str, Any]]:
    result = orderctl(env, "keys", "list", "--json")
    keys: list[dict[str, Any]] = json.loads(result.stdout)
    return keys


@pytest.fixture
def applied(migrated_env: dict[str, str]) -> dict[str, str]:
    """The environment of migrated databases."""
    return migrated_env


def test_a_key_is_created_listed_without_its_secret_and_revoked(
    applied: dict[str, str], tmp_path: Path
) -> None:
    # Given a key that is printed, and a key that is written to a file
    scopes = ("--scope", "orders:write", "--scope", "orders:read")
    shown = orderctl(applied, "keys", "create", "web shop", *scopes)
    file = tmp_path / "key"
    written = orderctl(applied, "keys", "create", "ops", "--scope", "ops", "--file", str(file))
    assert (shown.exit_code, written.exit_code) == (0, 0), shown.output + written.output
    key = shown.stdout.strip()

    # Then only the owner can read the file, and its key is not printed
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text().strip() not in written.output

    # And the list contains both keys without their secrets
    first, second = listed(applied)
    assert (first["name"], first["scopes"]) == ("web shop", ["orders:read", "orders:write"])
    assert (second["name"], second["scopes"], second["revoked_at"]) == ("ops", ["ops"], None)
    plain = orderctl(applied, "keys", "list").stdout
    assert first["prefix"] in plain
    assert key.rpartition("_")[2] not in plain + str(listed(applied))

    # And a key that is revoked twice keeps the time of the first revocation
    once = orderctl(applied, "keys", "revoke", first["prefix"])
    revoked_at = listed(applied)[0]["revoked_at"]
    again = orderctl(applied, "keys", "revoke", first["prefix"])
    assert (once.exit_code, again.exit_code) == (0, 0)
    assert listed(applied)[0]["revoked_at"] == revoked_at is not None
    assert listed(applied)[1]["revoked_at"] is None


def test_an_existing_key_is_registered_once_and_stays_revoked(
    applied: dict[str, str], tmp_path: Path
) -> None:
    # Given a file with a key, as `make secrets` writes it
    key = api_keys.generate()
    file = tmp_path / "key"
    file.write_text(f"{key}\n")
    register = ("keys", "register", "prometheus", "--file", str(file))

    # When it is registered twice
    once = orderctl(applied, *register, "--scope", "ops")
    again = orderctl(applied, *register, "--scope", "ops")

    # Then it is stored once and never printed
    assert (once.exit_code, again.exit_code) == (0, 0), once.output + again.output
    (stored,) = listed(applied)
    assert (stored["prefix"], stored["name"], stored["scopes"]) == (
        api_keys.prefix_of(key),
        "prometheus",
        ["ops"],
    )
    assert key not in once.output + again.output

    # And registering a revoked key does not restore it
    orderctl(applied, "keys", "revoke", stored["prefix"])
    assert orderctl(applied, *register, "--scope", "ops").exit_code == 0
    assert listed(applied)[0]["revoked_at"] is not None

    # And it cannot be registered with another scope or another secret
    wider = orderctl(applied, *register, "--scope", "ops", "--scope", "orders:read")
    file.write_text(key[:-4] + ("0000" if key[-4:] != "0000" else "1111"))
    other = orderctl(applied, *register, "--scope", "ops")
    for rejected in (wider, other):
        assert rejected.exit_code == 1
        assert f"the key {stored['prefix']} is already stored" in rejected.stderr
        assert rejected.stderr.count("\n") == 1
    assert [key["scopes"] for key in listed(applied)] == [["ops"]]


def test_invalid_arguments_are_reported_in_one_line(
    applied: dict[str, str], tmp_path: Path
) -> None:
    existing = tmp_path / "key"
    existing.touch()
    scope = ("--scope", "ops")

    for status, part, arguments in (
        (64, "--scope", ("create", "x")),
        (64, "orders:all", ("create", "x", "--scope", "orders:all")),
        (1, "name", ("create", "a\nb", *scope)),
        (1, str(existing), ("create", "x", *scope, "--file", str(existing))),
        (1, "'zz'", ("revoke", "zz")),
        (1, f"{existing}: not an API key", ("register", "x", *scope, "--file", str(existing))),
        (1, "nowhere", ("register", "x", *scope, "--file", "nowhere")),
    ):
        result = orderctl(applied, "keys", *arguments)
        assert result.exit_code == status, result.output
        assert part in result.stderr
        assert result.stderr.count("\n") == 1

    assert listed(applied) == []
    assert existing.read_text() == ""
