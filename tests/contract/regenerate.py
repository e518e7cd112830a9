"""Writes missing golden files of samples; `make docs` runs it.

Existing golden files never change, because published events must be decodable in every release.
"""

import json
from pathlib import Path

from eventbus.events import codec
from tests.contract.samples import SAMPLES

GOLDEN = Path(__file__).parent / "golden"


def main() -> None:
    for name, event in SAMPLES.items():
        golden = GOLDEN / f"{name}.json"
        if not golden.exists():
            document = json.loads(codec.encode(event))
            text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
            golden.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
