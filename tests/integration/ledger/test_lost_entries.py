"""Entries of the warehouse that a restored inventory lacks are listed as commands."""

import json
import shlex
from pathlib import Path

from console.commands.operator import operator_name
from testkit.data.accounted import AccountedSystem
from testkit.processes.orderctl import orderctl

CHECK = ("restore", "check", "--wait", "20", "--service", "inventory")


def enter(system: AccountedSystem, *arguments: str) -> None:
    result = orderctl(system.environment, "stock", *arguments)
    assert result.exit_code == 0, result.output


def set_back(system: AccountedSystem, condition: str = "true") -> None:
    """Restore the inventory to a time before these entries, and before all imports."""
    # No statement deletes entries.
    system.run("inventory", "ALTER TABLE stock_entries DISABLE TRIGGER USER")
    system.run("inventory", f"DELETE FROM stock_entries WHERE {condition}")
    system.run("inventory", "DELETE FROM stock_imports")


def lost(system: AccountedSystem, *, status: int) -> list[str]:
    """Return the commands of the entries that the check finds to be lost."""
    result = orderctl(system.environment, *CHECK, "--json")
    assert result.exit_code == status, result.output
    found = json.loads(result.stdout)["lost_entries"]
    assert {each["person"] for each in found} <= {operator_name()}
    return [each["command"] for each in found]


def test_lost_entries_are_listed_and_can_be_entered_again(
    system: AccountedSystem, tmp_path: Path
) -> None:
    # Given entries of each kind, with and without a document, one of them repeated
    file = tmp_path / "count.csv"
    file.write_text("sku,on_hand\nCUP,7\n")
    enter(system, "receive", "TEA", "5", "--reference", "DN-1; the first")
    enter(system, "receive", "TEA", "5", "--reference", "DN-1; the first")
    enter(system, "receive", "TEA", "5")
    enter(system, "receive", "TEA", "5")
    enter(system, "correct", "TEA", "-2", "--reason", "it's broken")
    enter(system, "set", "POT", "0")
    enter(system, "import", str(file))
    enter(system, "import", str(file), "--reference", "COUNT-7")
    assert lost(system, status=0) == []

    # When the inventory is restored to a time before some of them
    last = "SELECT max(id) FROM stock_entries WHERE reason = 'goods received'"
    set_back(system, f"id = ({last}) OR kind = 'correct' OR sku = 'POT' OR reference LIKE 'DN-1%'")

    # Then exactly the commands of these are listed
    commands = lost(system, status=1)
    assert commands == [
        "orderctl stock receive TEA 5 --reason 'goods received' --reference 'DN-1; the first'",
        "orderctl stock receive TEA 5 --reason 'goods received'",
        """orderctl stock correct TEA -2 --reason 'it'"'"'s broken'""",
        "orderctl stock set POT 0",
        f"orderctl stock import {file} --reason counted",
        f"orderctl stock import {file} --reason counted --reference COUNT-7",
    ]
    # And the commands with a document are not listed any more when they were entered again
    for command in (commands[0], commands[-1]):
        enter(system, *shlex.split(command)[2:])
    assert lost(system, status=1) == commands[1:-1]


def test_a_healing_reports_lost_entries(system: AccountedSystem) -> None:
    # Given an inventory that has lost an entry
    enter(system, "count", "TEA", "5", "--reason", "annual count")
    set_back(system)

    # When it is healed
    heal = ("restore", "heal", "--wait", "20", "--yes", "--service")
    result = orderctl(system.environment, *heal, "inventory")

    # Then the entry is listed, and that of another service is not looked for
    assert result.exit_code == 0, result.output
    assert "inventory: 1 entries of the warehouse are lost; enter them again:" in result.stdout
    assert "  orderctl stock count TEA 5 --reason 'annual count'  # " in result.stdout
    assert "warehouse" not in orderctl(system.environment, *heal, "fraud").stdout
