"""A JSON Schema as it is compared: definitions in place, nothing that is only for readers."""

from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]

#: What a released schema says besides once its type is retired: the day.
RETIRED = "x-retired"

#: What says nothing about which data is valid.
_ANNOTATIONS = {"title", "description", "examples", "deprecated", "$comment", "$defs", RETIRED}
#: What holds plain values rather than schemas.
_VALUES = {"default", "enum", "const", "required"}
_KINDS = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}


def inlined(schema: Schema) -> Schema:
    """Return the schema with each definition where it is referred to, and no annotations.

    A definition's name is a class's, which may change. A type that holds itself stays a reference
    there.
    """
    definitions = schema.get("$defs", {})

    def inline(node: Any, inside: frozenset[str]) -> Any:
        if isinstance(node, list):
            return [inline(item, inside) for item in node]
        if not isinstance(node, dict):
            return node
        name = node.get("$ref", "").rpartition("/")[2]
        if name and name not in inside:
            siblings = {keyword: value for keyword, value in node.items() if keyword != "$ref"}
            return inline(definitions[name] | siblings, inside | {name})
        kept = {keyword: value for keyword, value in node.items() if keyword not in _ANNOTATIONS}
        return {keyword: meant(keyword, value, inside) for keyword, value in kept.items()}

    def meant(keyword: str, value: Any, inside: frozenset[str]) -> Any:
        if keyword in _VALUES:
            return value
        if keyword == "properties":
            return {name: inline(field, inside) for name, field in value.items()}
        return inline(value, inside)

    whole: Schema = inline(schema, frozenset())
    return whole


def kind(schema: Schema) -> str:
    """Return the type of what is valid, `any` if that is more than one or not told."""
    # An enumeration has no type but that of its values.
    values = schema.get("enum") or ([schema["const"]] if "const" in schema else [])
    kinds = sorted({_KINDS[type(value)] for value in values})
    return str(schema.get("type") or " or ".join(kinds) or "any")


def without_null(schema: Schema) -> tuple[bool, Schema]:
    """Return whether null is valid beside something else, and the schema of that."""
    alternatives = schema.get("anyOf", [])
    others = [other for other in alternatives if other != {"type": "null"}]
    if len(others) == len(alternatives):
        return False, schema
    rest = {keyword: value for keyword, value in schema.items() if keyword != "anyOf"}
    return True, rest | (others[0] if len(others) == 1 else {"anyOf": others})
