"""The AsyncAPI document: the publishers and consumers of each message, and its wire format."""

from collections.abc import Iterator, Mapping
from configparser import ConfigParser
from pathlib import Path
from typing import Any

from common.events import EVENTS
from common.kombu_topology import EVENTS as EXCHANGE
from common.kombu_topology import SERVICES
from eventbus.events import schema
from eventbus.topology.service import Service

Document = dict[str, Any]

#: The version of the AMQP bindings.
_BINDING = "0.3.0"
_SCHEMA = "#/components/schemas/{name}"


def asyncapi(samples: Mapping[str, Mapping[str, Any]]) -> Document:
    """Return the document; `samples` are envelopes by type, which become its examples."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Order system",
            "version": _version(),
            "description": "Every event between the services. Each is a CloudEvents envelope in a "
            "task message of Celery's message protocol, version 2.",
        },
        "defaultContentType": "application/json",
        "servers": {
            "broker": {
                "host": "{host}:{port}",
                "protocol": "amqps",
                "protocolVersion": "0.9.1",
                "variables": {"host": {"default": "127.0.0.1"}, "port": {"default": "5671"}},
            }
        },
        "channels": {event_type: _channel(event_type) for event_type in EVENTS},
        "operations": dict(_operations()),
        "components": {
            "messages": {
                event_type: _message(event_type, samples[event_type]) for event_type in EVENTS
            },
            "schemas": _schemas(),
        },
    }


def _version() -> str:
    package = ConfigParser()
    package.read(Path(__file__).parents[1] / "setup.cfg", encoding="utf-8")
    return package["metadata"]["version"]


def _channel(event_type: str) -> Document:
    exchange = {"name": EXCHANGE.name, "type": EXCHANGE.type, "durable": True, "autoDelete": False}
    return {
        "address": event_type,
        "messages": {event_type: {"$ref": f"#/components/messages/{event_type}"}},
        "bindings": {
            "amqp": {"is": "routingKey", "exchange": exchange, "bindingVersion": _BINDING}
        },
    }


def _operations() -> Iterator[tuple[str, Document]]:
    for service in SERVICES:
        for event_type in service.published_types:
            how = {"deliveryMode": 2, "mandatory": True, "timestamp": True, "userId": service.name}
            summary = f"The {service.name} service publishes {event_type}, with publisher confirms."
            yield _operation(service, "send", event_type, summary, how)
        for event_type in service.consumed_types:
            summary = f"The {service.name} service consumes {event_type} from {service.queue}."
            yield _operation(service, "receive", event_type, summary, {"ack": True})


def _operation(
    service: Service, action: str, event_type: str, summary: str, how: Document
) -> tuple[str, Document]:
    return f"{service.name}.{action}.{event_type}", {
        "action": action,
        "channel": {"$ref": f"#/channels/{event_type}"},
        "summary": summary,
        "tags": [{"name": service.name}],
        "bindings": {"amqp": how | {"bindingVersion": _BINDING}},
        "messages": [{"$ref": f"#/channels/{event_type}/messages/{event_type}"}],
    }


def _message(event_type: str, sample: Mapping[str, Any]) -> Document:
    contract = EVENTS[event_type]
    of_type = {
        "type": {"const": event_type},
        "dataschema": {"const": schema.dataschema(event_type)},
        "data": {"$ref": _SCHEMA.format(name=contract.__name__)},
    }
    event = {"allOf": [{"$ref": _SCHEMA.format(name="Envelope")}, {"properties": of_type}]}
    return {
        "name": event_type,
        "summary": (contract.__doc__ or "").partition("\n")[0],
        "contentType": "application/json",
        "correlationId": {"location": "$message.header#/id"},
        "headers": {
            "allOf": [
                {"$ref": _SCHEMA.format(name="CeleryHeaders")},
                {"properties": {"task": {"const": event_type}}},
            ]
        },
        "payload": {
            "description": "Celery's args, kwargs and embed; kwargs contain the envelope.",
            "type": "array",
            "minItems": 3,
            "items": [
                {"type": "array", "maxItems": 0},
                {"type": "object", "properties": {"event": event}, "required": ["event"]},
                {"$ref": _SCHEMA.format(name="CeleryEmbed")},
            ],
            "additionalItems": False,
        },
        "bindings": {
            "amqp": {
                "contentEncoding": "utf-8",
                "messageType": event_type,
                "bindingVersion": _BINDING,
            }
        },
        "examples": [{"payload": [[], {"event": sample}, dict.fromkeys(_EMBED)]}],
    }


_EMBED = ("callbacks", "errbacks", "chain", "chord")
_NULL = {"type": "null"}
_TEXT = {"type": "string"}


def _schemas() -> Document:
    return {
        "CeleryHeaders": {
            "type": "object",
            "properties": {
                "task": {"type": "string", "description": "The event type."},
                "id": {"type": "string", "format": "uuid", "description": "The event's id."},
                "root_id": {"type": "string", "format": "uuid", "description": "The same id."},
                "retries": {"type": "integer", "minimum": 0, "description": "Failed attempts."},
                "traceparent": {"type": "string", "description": "The publish span, if traced."},
                "timelimit": {"type": "array", "items": _NULL, "minItems": 2, "maxItems": 2},
                "ignore_result": {"const": True},
                **dict.fromkeys(("lang", "argsrepr", "kwargsrepr"), _TEXT),
                **dict.fromkeys(("parent_id", "group", "eta", "expires"), _NULL),
            },
            "required": ["task", "id", "retries"],
        },
        "CeleryEmbed": {
            "type": "object",
            "properties": dict.fromkeys(_EMBED, _NULL),
            "additionalProperties": False,
        },
        **schema.definitions(_SCHEMA),
    }
