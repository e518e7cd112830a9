"""The events that services have published, read from the stream up to its current end."""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

import msgspec

from common.kombu_topology import STREAM
from console.broker.connection import connected
from console.errors import ActionError
from console.settings import BrokerAdminSettings
from eventbus.catch_up.past_event import PastEvent
from eventbus.errors import InvalidEvent
from eventbus.events import codec
from eventbus.events.envelope import Event
from eventbus.messaging.stream import Entry, Start, Stream, watermark
from eventbus.topology.service import Service

#: Number of messages that are read together; one batch is in memory.
BATCH = 500

#: Seconds to wait for messages of the stream in one read, and in total before the action fails.
_READ_TIMEOUT, _STALL_TIMEOUT = 0.5, 60.0


class Published(NamedTuple):
    """An event of the stream, its envelope as JSON, and the time of its publication."""

    event: Event
    envelope: str
    at: datetime

    @property
    def id(self) -> UUID:
        """The id of the event."""
        return self.event.id


def published(
    settings: BrokerAdminSettings, senders: Sequence[Service], start: Start
) -> Iterator[list[Published]]:
    """Yield the events that these services have published, in batches, each event once in a batch.

    Messages that a service could not have published are skipped. Raises `ActionError`.
    """
    with connected(settings) as writing:
        try:
            end = watermark(writing, STREAM)
        except TimeoutError as error:
            raise ActionError(str(error)) from None
    with (
        connected(settings) as reading,
        closing(Stream(reading, STREAM, start, prefetch=BATCH)) as stream,
    ):
        read_at = time.monotonic()
        while stream.position < end:
            if entries := stream.read(BATCH, _READ_TIMEOUT):
                read_at = time.monotonic()
                yield _of(senders, entries)
            elif time.monotonic() - read_at > _STALL_TIMEOUT:
                raise ActionError(f"the stream stalled at {stream.position}, before {end}")


def _of(senders: Sequence[Service], entries: Sequence[Entry]) -> list[Published]:
    found: dict[UUID, Published] = {}
    for entry in entries:
        with suppress(InvalidEvent):
            past = PastEvent.of(entry)
            event = codec.decode(past.envelope or {})
            sender = next((s for s in senders if s.name == event.source), None)
            if sender and event.type in sender.published_types and _is_routed(entry, event):
                envelope = msgspec.json.encode(past.envelope).decode()
                at = entry.published_at or event.time.astimezone(UTC)
                # The versions of an event have the same id.
                found.setdefault(event.id, Published(event, envelope, at))
    return list(found.values())


def _is_routed(entry: Entry, event: Event) -> bool:
    # The broker restricts routing keys, so a service publishes only its own types. Only operators
    # publish to the default exchange.
    delivery = entry.message.delivery_info
    return bool(delivery.get("exchange") == "" or delivery.get("routing_key") == event.type)
