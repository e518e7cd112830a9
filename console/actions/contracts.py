"""The released contracts: comparing them with the current contracts, and updating them."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from console.contracts.compatibility import Change, changes
from console.contracts.schema import RETIRED, Schema
from console.errors import ActionError
from eventbus.events import schema


def check(folder: Path) -> list[Change]:
    """Return the changes of the contracts in the code since the release in `folder`."""
    return changes(_released(folder), schema.schemas())


def release(folder: Path) -> Iterator[str]:
    """Record the contracts in the code as released, and yield the name of each changed contract."""
    released = _released(folder)
    for name, current in schema.schemas().items():
        before = released.get(name, {})
        mark = {RETIRED: before[RETIRED]} if RETIRED in before else {}
        if before != (now := current | mark):
            _write(folder / f"{name}.json", now)
            yield name


def retire(folder: Path, event_type: str) -> str | None:
    """Mark a type as retired, so that it can be removed from the code, and return the day.

    Returns None if the type was never released, because there is nothing to mark.
    """
    schema = _released(folder).get(event_type)
    if schema is None:
        return None
    marked = dict(schema)
    day = marked.setdefault(RETIRED, datetime.now(UTC).date().isoformat())
    _write(folder / f"{event_type}.json", marked)
    return str(day)


def _write(path: Path, schema: Schema) -> None:
    text = json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8")


def _released(folder: Path) -> dict[str, Schema]:
    if not folder.is_dir():
        raise ActionError(f"{folder} does not exist: run this in a checkout, or set --released")
    return {path.stem: _read(path) for path in folder.glob("*.json")}


def _read(path: Path) -> Schema:
    try:
        schema: Schema = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ActionError(f"{path}: not JSON: {error}") from None
    return schema
