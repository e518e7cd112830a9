"""The golden samples of the contract tests, which are also the examples in the documents."""

import json
from pathlib import Path
from typing import Any

from common.events import EVENTS

GOLDEN = Path(__file__).parents[1] / "tests/contract/golden"


def newest_samples() -> dict[str, dict[str, Any]]:
    """Return each event type's sample of the newest version of its contract, as an envelope."""
    # A file is named after its type, which may itself end in a version, and `.v<version>`.
    newest: dict[str, Path] = {}
    for path in sorted(GOLDEN.glob("*.json"), key=_version):
        newest[path.stem.rpartition(".v")[0]] = path
    if missing := EVENTS.keys() - newest:
        raise LookupError(f"{', '.join(missing)}: no sample in tests/contract/samples.py")
    return {name: json.loads(path.read_text(encoding="utf-8")) for name, path in newest.items()}


def _version(path: Path) -> int:
    return int(path.stem.rpartition(".v")[2])
