"""Writes the JSON Schemas anew, and the golden file of each sample that has none.

Run `python -m tests.contract.regenerate` after a contract got a field, and commit what it wrote.
It never changes a golden file: what was sent once must decode for ever.
"""

import json
from pathlib import Path
from typing import Any

from common import codec
from common.events import EVENTS
from tests.contract.samples import SAMPLES

GOLDEN = Path(__file__).parent / "golden"
SCHEMAS = Path(__file__).parent / "schemas"


def main() -> None:
    for name, event in SAMPLES.items():
        golden = GOLDEN / f"{name}.json"
        if not golden.exists():
            _write(golden, json.loads(codec.encode(event)))
    for event_type in EVENTS:
        _write(SCHEMAS / f"{event_type}.json", schema(event_type))


def schema(event_type: str) -> dict[str, Any]:
    """Return the schema as it looks once it was written and read again."""
    document: dict[str, Any] = json.loads(json.dumps(codec.json_schema(event_type)))
    return document


def _write(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
