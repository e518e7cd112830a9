"""`orderctl contracts`: output, recorded releases, rejected changes and exit codes."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from console.orderctl import main
from eventbus.events import schema


@pytest.fixture
def released(tmp_path: Path) -> Path:
    """A folder with the current contracts."""
    assert orderctl("release", tmp_path).exit_code == 0
    return tmp_path


def orderctl(command: str, folder: Path, *options: str) -> Result:
    arguments = ["contracts", command, "--released", str(folder), *options]
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


def edit(folder: Path, name: str, field: str, **keywords: Any) -> None:
    """Change one field in the data of a released contract."""
    path = folder / f"{name}.json"
    schema = json.loads(path.read_text(encoding="utf-8"))
    shape = schema["$defs"][schema["$ref"].rpartition("/")[2]]
    shape["properties"][field] |= keywords
    path.write_text(json.dumps(schema), encoding="utf-8")


def test_a_new_release_has_no_changes(released: Path) -> None:
    assert {path.stem for path in released.iterdir()} == schema.schemas().keys()

    checked, again = orderctl("check", released), orderctl("release", released)

    assert (checked.exit_code, checked.output) == (
        0,
        "contracts: no changes since the last release\n",
    )
    assert (again.exit_code, again.output) == (0, "contracts: nothing to release\n")


def test_a_compatible_change_is_reported_and_released(released: Path) -> None:
    # Given a type that the last release does not have
    (released / "stock.released.json").unlink()

    # When the contracts are checked and released
    checked, recorded = orderctl("check", released), orderctl("release", released)

    # Then the type is reported and recorded
    assert checked.exit_code == 0
    assert checked.output.startswith("compatible: stock.released $.data: event type added: ")
    assert (recorded.exit_code, recorded.output) == (0, "released stock.released\n")
    assert (released / "stock.released.json").exists()


def test_a_breaking_change_is_reported_and_nothing_is_released(released: Path) -> None:
    # Given a breaking change and a compatible one
    edit(released, "order.created", "total", type="string")
    (released / "stock.released.json").unlink()

    # When the contracts are checked and released
    checked, refused = orderctl("check", released), orderctl("release", released)

    # Then both commands report the changes, and nothing is recorded
    change = "breaking: order.created $.data.total: type changed from string to integer: "
    for result in (checked, refused):
        assert result.exit_code == 2
        assert result.output.startswith(change)
        assert result.output.endswith("1 compatible, 1 breaking changes since the last release\n")
    assert not (released / "stock.released.json").exists()


def test_changes_can_be_printed_as_json(released: Path) -> None:
    # Given a breaking change
    edit(released, "order.created", "total", minimum=-1)

    # When the contracts are checked
    result = orderctl("check", released, "--json")

    # Then the report has the same content
    assert result.exit_code == 2
    assert json.loads(result.output) == {
        "compatible": False,
        "changes": [
            {
                "contract": "order.created",
                "path": "$.data.total",
                "change": "minimum widened from -1 to none",
                "breaking": True,
                "reason": "running consumers may reject new events",
            }
        ],
    }


def test_a_release_records_changes_of_descriptions(released: Path) -> None:
    # Given a change of a description
    edit(released, "order.created", "total", description="In other words.")

    # Then the new description is recorded
    assert orderctl("release", released).output == "released order.created\n"


def test_a_missing_folder_and_a_broken_file_are_named(released: Path) -> None:
    # Given a missing folder and a folder with a broken file
    missing, broken = released / "nowhere", released / "order.created.json"
    broken.write_text("{", encoding="utf-8")

    # Then each is named in one line
    for folder, named in ((missing, missing), (released, broken)):
        result = orderctl("check", folder)
        assert result.exit_code == 1
        assert str(named) in result.output
        assert result.output.count("\n") == 1
