"""The contracts as they were released last: compare with them, and record the present ones."""

import json
from collections.abc import Iterator
from pathlib import Path

from common import codec
from console.compatibility import Change, changes
from console.errors import ActionError
from console.schema import Schema


def check(folder: Path) -> list[Change]:
    """Return how the contracts in the code differ from those that `folder` says were released."""
    return changes(_released(folder), codec.schemas())


def release(folder: Path) -> Iterator[str]:
    """Record the contracts in the code as released; yield the name of each that is not yet so."""
    released = _released(folder)
    for name, schema in codec.schemas().items():
        if released.get(name) != schema:
            text = json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
            (folder / f"{name}.json").write_text(text, encoding="utf-8")
            yield name


def _released(folder: Path) -> dict[str, Schema]:
    if not folder.is_dir():
        raise ActionError(f"{folder} is not there: run this in a checkout, or name --released")
    return {path.stem: _read(path) for path in folder.glob("*.json")}


def _read(path: Path) -> Schema:
    try:
        schema: Schema = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ActionError(f"{path}: not JSON: {error}") from None
    return schema
