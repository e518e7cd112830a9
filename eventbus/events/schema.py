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
        int, Meta(ge=1, description="Counts the events about one subject from one source.")
    ]
    time: Annotated[datetime, Meta(tz=True, description="When it happened, in UTC.")]
    traceparent: Annotated[
        str | None, Meta(description="W3C trace context of the request that caused the event.")
    ] = None
    causationid: Annotated[
        UUID | None, Meta(description="The id of the event that this event answers.")
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
    shapes: dict[str, Any] = {"envelope": Envelope, **current().by_type}
    return {name: _normalized(msgspec.json.schema(shape)) for name, shape in shapes.items()}


def definitions(ref_template: str) -> dict[str, Any]:
    """Return the definitions that all schemas share, for one document that contains them."""
    shapes = (Envelope, *current().contracts)
    _, found = msgspec.json.schema_components(shapes, ref_template=ref_template)
    whole: dict[str, Any] = _normalized({"$defs": found})["$defs"]
    return whole


def _normalized(schema: dict[str, Any]) -> dict[str, Any]:
    # The schema as it is after writing and reading it: with a list for a tuple.
    normalized: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(schema))
    for shape in normalized["$defs"].values():
        # Python before 3.13 keeps the indentation of a docstring.
        shape["description"] = cleandoc(shape["description"])
    return normalized
