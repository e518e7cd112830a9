"""A JSON Schema in the form that is compared: definitions inlined, without annotations."""

from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]

#: The keyword of a released schema with the day on which its type was retired.
RETIRED = "x-retired"

#: Keywords that do not affect which data is valid.
_ANNOTATIONS = {"title", "description", "examples", "deprecated", "$comment", "$defs", RETIRED}
#: Keywords that contain plain values rather than schemas.
_VALUES = {"default", "enum", "const", "required"}
_KINDS = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}


def inlined(schema: Schema) -> Schema:
    """Return the schema with each reference replaced by its definition, without annotations.

    A definition is named after a class, whose name may change. In a type that contains itself, the
    inner reference stays.
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
        return {
            keyword: inline_value(keyword, value, inside)
            for keyword, value in node.items()
            if keyword not in _ANNOTATIONS
        }

    def inline_value(keyword: str, value: Any, inside: frozenset[str]) -> Any:
        if keyword in _VALUES:
            return value
        if keyword == "properties":
            return {name: inline(field, inside) for name, field in value.items()}
        return inline(value, inside)

    result: Schema = inline(schema, frozenset())
    return result


def kind(schema: Schema) -> str:
    """Return the type of valid data, `any` if there are several or it is not specified."""
    # The type of an enumeration is the type of its values.
    values = schema.get("enum") or ([schema["const"]] if "const" in schema else [])
    kinds = sorted({_KINDS[type(value)] for value in values})
    return str(schema.get("type") or " or ".join(kinds) or "any")


def without_null(schema: Schema) -> tuple[bool, Schema]:
    """Return whether null is valid in addition to other data, and the schema of the other data."""
    alternatives = schema.get("anyOf", [])
    others = [other for other in alternatives if other != {"type": "null"}]
    if len(others) == len(alternatives):
        return False, schema
    rest = {keyword: value for keyword, value in schema.items() if keyword != "anyOf"}
    return True, rest | (others[0] if len(others) == 1 else {"anyOf": others})
