"""The golden samples of the contract tests, which the documents show as examples."""

import json
from pathlib import Path
from typing import Any

from common.events import EVENTS

GOLDEN = Path(__file__).parents[1] / "tests/contract/golden"


def newest_samples() -> dict[str, dict[str, Any]]:
    """Return each event type's sample of the newest version of its contract, as an envelope."""
    # A file's name is that of the type, which may end in a version itself, and `.v<version>`.
    named = [(*path.stem.rsplit(".v", 1), path) for path in GOLDEN.glob("*.json")]
    in_order = sorted(named, key=lambda it: int(it[1]))
    newest = {event_type: path for event_type, _, path in in_order}
    if missing := EVENTS.keys() - newest:
        raise LookupError(f"{', '.join(missing)}: no sample in tests/contract/samples.py")
    return {name: json.loads(path.read_text(encoding="utf-8")) for name, path in newest.items()}
