"""`orderctl contracts retire` marks an event type as retired only if it is unused."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from common.kombu_topology import INVENTORY
from console.actions import contracts, retirement
from console.actions.retirement import uses
from console.commands import contracts as command
from console.orderctl import main
from eventbus.events import schema
from testkit.servers.bindings import bind
from testkit.versions.migrated import MIGRATED
from testkit.versions.retirement import V1, MigratedSystem


@pytest.fixture
def orderctl_contracts(
    migrated: MigratedSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    """Run `orderctl contracts` on the migrated system and a directory of released contracts."""
    monkeypatch.setattr(command, "load_operator", lambda _: migrated.settings)
    monkeypatch.setattr(retirement, "uses", partial(uses, services=MIGRATED))
    list(contracts.release(tmp_path))

    def run(*arguments: str) -> Result:
        command_line = ["contracts", *arguments, "--released", str(tmp_path)]
        return CliRunner().invoke(main, command_line, catch_exceptions=False)

    return run


def test_a_type_in_use_is_not_retired(
    migrated: MigratedSystem, orderctl_contracts: Callable[..., Result], tmp_path: Path
) -> None:
    # Given a binding for the type
    bind(migrated.broker, INVENTORY.queue, V1)
    before = (tmp_path / f"{V1}.json").read_text()

    # When the type is retired
    as_text, as_json = (
        orderctl_contracts("retire", "order.created.v1"),
        orderctl_contracts("retire", V1, "--json"),
    )

    # Then the command fails and reports the binding
    assert as_text.exit_code == as_json.exit_code == 2
    assert as_text.output.splitlines() == [
        f"binding {INVENTORY.queue}: would receive it",
        "order.created is not retired; remaining uses: 1",
    ]
    assert json.loads(as_json.output) == {
        "type": V1,
        "retired": False,
        "since": None,
        "uses": [
            {
                "kind": "binding",
                "place": INVENTORY.queue,
                "text": "would receive it",
                "count": None,
            }
        ],
        "unseen": [],
    }
    assert (tmp_path / f"{V1}.json").read_text() == before


def test_an_unused_type_is_retired_and_can_be_deleted(
    orderctl_contracts: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # When the type is retired twice
    first, again = (
        orderctl_contracts("retire", "order.created.v1"),
        orderctl_contracts("retire", V1),
    )

    # Then both runs report the same date
    assert (first.exit_code, first.output) == (again.exit_code, again.output)
    assert first.exit_code == 0
    assert "order.created is unused: retired since 20" in first.output
    # And the next release keeps the mark
    assert "nothing to release" in orderctl_contracts("release").output

    # When the type is deleted from the code
    remaining = {name: each for name, each in schema.schemas().items() if name != V1}
    monkeypatch.setattr(schema, "schemas", lambda: remaining)

    # Then the check accepts that
    checked = orderctl_contracts("check")
    assert checked.exit_code == 0
    assert "compatible: order.created $.data: event type removed: it was retired on" in (
        checked.output
    )


def test_an_unknown_type_is_rejected(orderctl_contracts: Callable[..., Result]) -> None:
    result = orderctl_contracts("retire", "order.lost")

    assert result.exit_code == 64
    assert "order.lost is not an event type" in result.output
