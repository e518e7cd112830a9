"""All documents that are generated from the contracts, by path."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from contracts.asyncapi import asyncapi
from contracts.catalogue import catalogue
from contracts.samples import newest_samples
from eventbus.events import schema

REPOSITORY = Path(__file__).parents[1]
SCHEMAS = "contracts/schemas"


def documents() -> dict[str, str]:
    """Return the text of each document, by its path in the repository."""
    schemas, samples = schema.schemas(), newest_samples()
    return {
        **{f"{SCHEMAS}/{name}.json": _json(schema) for name, schema in schemas.items()},
        "contracts/asyncapi.json": _json(asyncapi(samples)),
        "docs/catalogue.md": catalogue(schemas, samples),
    }


def stale() -> list[str]:
    """Return the paths of the schemas whose event type no longer exists."""
    existing = {f"{SCHEMAS}/{path.name}" for path in (REPOSITORY / SCHEMAS).glob("*.json")}
    return sorted(existing - documents().keys())


def _json(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
