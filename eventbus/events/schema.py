"""JSON Schemas of the envelope and of each event type's data."""

from datetime import datetime
from inspect import cleandoc
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from eventbus.events.catalogue import current


class Attributes(msgspec.Struct, kw_only=True):
    """The attributes of an envelope that differ from event to event."""

    id: Annotated[UUID, Meta(description="The event's id, a UUID version 7; the dedup key.")]
    source: Annotated[str, Meta(description="The service that published the event.")]
    subject: Annotated[UUID, Meta(description="The id of the entity that the event is about.")]
    sequence: Annotated[
        int, Meta(ge=1, description="Numbers the events about one subject from one source.")
    ]
    time: Annotated[datetime, Meta(tz=True, description="The time of the event, in UTC.")]
    traceparent: Annotated[
        str | None, Meta(description="W3C trace context of the request that caused the event.")
    ] = None
    causationid: Annotated[
        UUID | None, Meta(description="The id of the event that caused this one.")
    ] = None
    replayed: Annotated[
        bool, Meta(description="Whether the event comes from history: no external side effects.")
    ] = False


class Envelope(Attributes, kw_only=True):
    """A CloudEvents 1.0 envelope in JSON; attributes without a value are omitted."""

    specversion: Annotated[Literal["1.0"], Meta(description="The version of CloudEvents.")]
    type: Annotated[str, Meta(description="The event type; also the routing key.")]
    datacontenttype: Annotated[Literal["application/json"], Meta(description="The data's format.")]
    dataschema: Annotated[str, Meta(description="`urn:<namespace>:event:<type>`.")]
    data: Annotated[dict[str, Any], Meta(description="The data of this event type.")]


def dataschema(event_type: str) -> str:
    """Return the URI of the schema of an event type's data."""
    return f"urn:{current().namespace}:event:{event_type}"


def schemas() -> dict[str, dict[str, Any]]:
    """Return the JSON Schema of each event type's data, and of the `envelope` around it."""
    types: dict[str, Any] = {"envelope": Envelope, **current().by_type}
    return {name: _normalized(msgspec.json.schema(type_)) for name, type_ in types.items()}


def definitions(ref_template: str) -> dict[str, Any]:
    """Return the definitions of all schemas, for a single document that contains them."""
    types = (Envelope, *current().contracts)
    _, components = msgspec.json.schema_components(types, ref_template=ref_template)
    normalized: dict[str, Any] = _normalized({"$defs": components})["$defs"]
    return normalized


def _normalized(schema: dict[str, Any]) -> dict[str, Any]:
    # A round trip through JSON turns tuples into lists.
    normalized: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(schema))
    for definition in normalized["$defs"].values():
        # Python before 3.13 keeps the indentation of a docstring.
        definition["description"] = cleandoc(definition["description"])
    return normalized
