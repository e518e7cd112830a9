"""Hostile messages, generated from a seed, as a broken or malicious publisher sends them."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from testkit.wire import hostile_bodies, hostile_properties  # noqa: F401 - register kinds
from testkit.wire.draft import KINDS, draft


@dataclass(frozen=True)
class Message:
    """A message on the wire, with its kind and its event."""

    kind: str
    type: str
    event_id: str
    properties: bytes
    body: bytes


def messages(
    seed: int, count: int, events: dict[str, tuple[str, dict[str, Any]]], *, good: int = 10
) -> Iterator[Message]:
    """Yield `count` messages of these event types (source and data), of which every `good`-th is
    valid.

    Each kind occurs once before kinds are chosen at random.
    """
    rng = random.Random(seed)
    kinds = list(KINDS)
    for number in range(count):
        event_type = rng.choice(list(events))
        source, data = events[event_type]
        message = draft(rng, event_type, data, source)
        event_id = message.envelope["id"]
        kind = "good" if number % good == 0 else rng.choice(kinds)
        if kind != "good" and (first := number - number // good - 1) < len(kinds):
            kind = kinds[first]
        if kind != "good":
            KINDS[kind](message)
        yield Message(kind, event_type, event_id, *message.written())
