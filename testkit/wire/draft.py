"""Drafts of messages, and the registry of the changes that make them hostile."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from testkit.wire.frames import integer, long_string, properties, short_string, table

EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


@dataclass
class Draft:
    """A good message of an event, which a change makes hostile."""

    rng: random.Random
    type: str
    envelope: dict[str, Any]
    headers: dict[bytes, bytes] = field(default_factory=dict)
    properties: dict[str, bytes] = field(default_factory=dict)
    #: The replacement for the body that results from the envelope.
    body: bytes | None = None
    args: list[Any] = field(default_factory=list)
    kwargs: dict[str, Any] = field(default_factory=dict)
    embed: dict[str, Any] = field(default_factory=lambda: dict(EMBED))

    def choose(self, *values: Any) -> Any:
        """Return one of these values."""
        return self.rng.choice(values)

    def written(self) -> tuple[bytes, bytes]:
        """Return the properties and the body as bytes on the wire."""
        body = self.body
        if body is None:
            call = [self.args, {"event": self.envelope} | self.kwargs, self.embed]
            body = json.dumps(call).encode()
        return properties(**self.properties, headers=table(self.headers)), body


Change = Callable[[Draft], None]

#: The change of a good message, by kind.
KINDS: dict[str, Change] = {}


def kind(name: str) -> Callable[[Change], Change]:
    """Register a function as a kind."""

    def register(change: Change) -> Change:
        KINDS[name] = change
        return change

    return register


def draft(rng: random.Random, event_type: str, data: dict[str, Any], source: str) -> Draft:
    """Return a good message of a new event."""
    event_id = str(UUID(int=rng.getrandbits(128), version=4))
    envelope = {
        "specversion": "1.0",
        "id": event_id,
        "type": event_type,
        "source": source,
        "subject": str(UUID(int=rng.getrandbits(128), version=4)),
        "time": datetime.now(UTC).isoformat(),
        "sequence": 1,
        "datacontenttype": "application/json",
        "dataschema": f"urn:order-system:event:{event_type}",
        "data": data,
    }
    text = {"task": event_type, "id": event_id, "lang": "py", "argsrepr": "()"}
    return Draft(
        rng=rng,
        type=event_type,
        envelope=envelope,
        headers={name.encode(): long_string(value.encode()) for name, value in text.items()}
        | {b"retries": integer(0)},
        properties={
            "content_type": short_string(b"application/json"),
            "content_encoding": short_string(b"utf-8"),
            "delivery_mode": b"\2",
            "message_id": short_string(event_id.encode()),
            "type": short_string(event_type.encode()),
        },
    )
