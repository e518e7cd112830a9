"""The event catalogue: a page that shows each event, its fields, and who says and hears it."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from common.events import EVENTS
from common.kombu_topology import SERVICES

Schema = Mapping[str, Any]

_TYPES = {"uuid": "UUID", "date-time": "RFC 3339", "array": "list"}
_LIMITS = {
    "minimum": " ≥ {}",
    "exclusiveMinimum": " > {}",
    "maximum": " ≤ {}",
    "exclusiveMaximum": " < {}",
    "minLength": ", length ≥ {}",
    "maxLength": ", length ≤ {}",
    "minItems": ", length ≥ {}",
    "maxItems": ", length ≤ {}",
    "pattern": ", like `{}`",
}

_HEAD = """\
# Event catalogue

<!-- Made by `make docs` from the code: change it there. -->

What each event says, who publishes and who consumes it. How it travels, and how to change or add
one, is in [events](events.md). For programs, the same is in [AsyncAPI](../contracts/asyncapi.json)
and in JSON Schemas.
"""


def catalogue(schemas: Mapping[str, Schema], samples: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the page in Markdown, from the contracts' schemas and an envelope of each type."""
    whole = samples[next(iter(EVENTS))]
    parts = [_HEAD, *_overview(), *_section("Envelope", schemas["envelope"], whole)]
    for event_type in EVENTS:
        parts += _section(event_type, schemas[event_type], samples[event_type]["data"])
    return "\n".join(parts) + "\n"


def _overview() -> Iterator[str]:
    yield "| type | published by | consumed by | says |\n| --- | --- | --- | --- |"
    for event_type, contract in EVENTS.items():
        says = (contract.__doc__ or "").partition("\n")[0]
        publishers = ", ".join(s.name for s in SERVICES if event_type in s.published_types)
        consumers = ", ".join(s.name for s in SERVICES if event_type in s.consumed_types)
        link = f"[`{event_type}`](#{event_type.replace('.', '')})"
        yield f"| {link} | {publishers} | {consumers} | {says} |"


def _section(name: str, schema: Schema, example: Mapping[str, Any]) -> Iterator[str]:
    definitions = schema["$defs"]
    shape = _resolved(schema, definitions)
    yield f"\n## {name}\n\n{shape['description']}\n"
    yield f"[Schema](../contracts/schemas/{name.lower()}.json)\n"
    yield "| field | type | |\n| --- | --- | --- |"
    yield from _rows("", shape, definitions)
    yield f"\n```json\n{json.dumps(example, indent=2, ensure_ascii=False)}\n```"


def _rows(prefix: str, shape: Schema, definitions: Mapping[str, Schema]) -> Iterator[str]:
    """Yield a row for each field, and below a field those of what it holds."""
    for name, field in shape.get("properties", {}).items():
        optional = "" if name in shape.get("required", ()) else ", optional"
        # What a class says of itself is told once, where the field says nothing else.
        inner = _resolved(field, definitions)
        items = _resolved(inner.get("items") or {}, definitions)
        meaning = field.get("description") or items.get("description") or inner.get("description")
        yield f"| `{prefix}{name}` | {_type(inner, definitions)}{optional} | {meaning or ''} |"
        yield from _rows(f"{prefix}{name}.", inner, definitions)
        yield from _rows(f"{prefix}{name}[].", items, definitions)


def _resolved(schema: Any, definitions: Mapping[str, Schema]) -> Schema:
    """Return what a reference stands for, also where null is the only other choice."""
    if not isinstance(schema, Mapping):
        return {}
    others = [other for other in schema.get("anyOf", ()) if other != {"type": "null"}]
    if len(others) == 1:
        return _resolved(others[0], definitions)
    if "$ref" in schema:
        return definitions[schema["$ref"].rpartition("/")[2]]
    return schema


def _type(schema: Schema, definitions: Mapping[str, Schema]) -> str:
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(_type(_resolved(s, definitions), definitions) for s in schema["anyOf"])
    name = schema.get("format") or schema.get("type") or "any"
    told = _TYPES.get(name, name)
    items = _resolved(schema.get("items"), definitions)
    if told == "list" and items and "properties" not in items:
        told += f" of {_type(items, definitions)}"
    limits = [(limit, schema[limit]) for limit in _LIMITS if limit in schema]
    return told + "".join(_LIMITS[limit].format(value) for limit, value in limits)
