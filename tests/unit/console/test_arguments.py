"""Wrong arguments of `orderctl` are named in one line, before anything is done."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from console.commands.operator import operator_name
from console.orderctl import main

#: A byte that is not UTF-8, as Python passes it to a program.
BYTE = "\udce4"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("stock", "count", "TEA", "1", "--reason", BYTE), "'--reason': it is not UTF-8"),
        (("stock", "receive", BYTE, "1"), "'SKU': it is not UTF-8"),
        (("stock", "import", __file__, "--reference", BYTE), "'--reference': it is not UTF-8"),
        (("keys", "create", BYTE, "--scope", "ops"), "'NAME': it is not UTF-8"),
        (("contracts", "retire", BYTE), "'TYPE': it is not UTF-8"),
        (
            ("parked", "discard", "order", "--id", "1", "--id", BYTE, "--reason", "test"),
            "'--id': it is not UTF-8",
        ),
        (("reconcile", "--since", "99999999h"), "'--since': '99999999h' is more than 100 years"),
        (("parked", "plan", "order", "--older-than", "999999d"), "is more than 100 years"),
        (("reconcile", "--pause", "nan"), "'--pause': it is not a number"),
        (("contracts", "retire", "order.created", "--within", "1e300"), "'--within'"),
        (("parked", "list", "--limit", "9" * 30), "'--limit'"),
        (("analytics", "replay", "--from", "9" * 30), "'--from'"),
        (("analytics", "replay", "--from", "0001-01-01"), "'--from'"),
        (("subscribe", "fraud", "--from", "9" * 5_000), "'--from'"),
        (("subscribe", "fraud", "--from", "0001-01-01T00:00+14:00"), "'--from'"),
    ],
)
def test_a_wrong_argument_is_named(arguments: tuple[str, ...], reason: str) -> None:
    result = CliRunner().invoke(main, arguments)

    assert (result.exit_code, result.stdout) == (64, ""), result.exception
    assert reason in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_user_name_in_another_encoding_is_recorded_readably(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LOGNAME", f"j{BYTE}rg")

    assert operator_name() == "j?rg"


@pytest.mark.parametrize(
    ("option", "text", "limit"),
    [("--reason", " ", 500), ("--reference", "", 100), ("--reference", "D" * 3_000, 100)],
)
def test_a_note_that_is_empty_or_too_long_is_named(option: str, text: str, limit: int) -> None:
    result = CliRunner().invoke(main, ["stock", "receive", "TEA", "1", option, text])

    assert result.exit_code == 1
    assert f"{option}: must have 1 to {limit} characters" in result.stderr


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_full_disk_for_the_output_is_one_line(options: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "console.orderctl", "contracts", "check", *options]
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)

    assert result.returncode != 0
    assert result.stderr.startswith(
        "Error: the output cannot be written: No space left on device\n"
    )
    assert "Traceback" not in result.stderr
