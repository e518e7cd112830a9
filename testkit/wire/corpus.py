"""Hostile messages in any number, made from a seed: what a broken or malicious publisher sends."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from testkit.wire import hostile_bodies, hostile_properties  # noqa: F401 - they register
from testkit.wire.draft import KINDS, draft


@dataclass(frozen=True)
class Message:
    """A message on the wire, and what it is."""

    kind: str
    type: str
    event_id: str
    properties: bytes
    body: bytes


def messages(
    seed: int, count: int, events: dict[str, tuple[str, dict[str, Any]]], *, good: int = 10
) -> Iterator[Message]:
    """Yield so many messages of these event types (source and data), each `good`-th a good one.

    Each kind comes once before it comes at random.
    """
    rng = random.Random(seed)
    kinds = list(KINDS)
    for number in range(count):
        event_type = rng.choice(list(events))
        source, data = events[event_type]
        made = draft(rng, event_type, data, source)
        event_id = made.envelope["id"]
        kind = "good" if number % good == 0 else rng.choice(kinds)
        if kind != "good" and (first := number - number // good - 1) < len(kinds):
            kind = kinds[first]
        if kind != "good":
            KINDS[kind](made)
        yield Message(kind, event_type, event_id, *made.written())
