"""Batches of outbox rows that are sent together, each event in its published versions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Row

from eventbus.errors import InvalidEvent
from eventbus.events import codec
from eventbus.events.conversion import convert
from eventbus.events.versions import versions
from eventbus.messaging.event_message import LARGEST_EVENT
from eventbus.messaging.in_flight import InFlight, Outgoing, Report
from eventbus.messaging.publisher import Publisher
from eventbus.outbox.claims import Rows
from eventbus.outbox.lanes import Lane
from eventbus.telemetry.privacy import described


@dataclass(frozen=True)
class Batch:
    """Rows that were claimed together and are in flight to the broker."""

    rows: Rows
    in_flight: InFlight
    #: Time of the claim, by `time.monotonic()`.
    began: float
    #: The lane in which its events waited, or None.
    lane: Lane | None = None


class Batches:
    """The sender of batches, which waits for their reports."""

    def __init__(self, publisher: Publisher, sent_as: Sequence[str]) -> None:
        """`sent_as` lists the published versions of a fact; by default the stored version."""
        self._publisher = publisher
        self._sent_as = {version: tuple(sent_as) for t in sent_as for version in versions(t)}

    def send(self, rows: Rows, began: float, lane: Lane | None = None) -> Batch:
        """Publish the events of these rows in this order, without waiting for confirms."""
        messages: list[Outgoing] = []
        invalid: dict[UUID, str] = {}
        for row in rows:
            try:
                messages += self._messages(row)
            except Exception as error:
                # An error of one event must not stop the others.
                invalid[row.event_id] = described(error)
        in_flight = self._publisher.send(messages, aside=lane is not None)
        in_flight.report.invalid |= invalid
        return Batch(rows, in_flight, began, lane)

    def settle(self, batch: Batch, until: float = inf) -> Report | None:
        """Return the report of a batch, or None if it is not complete at `until`."""
        return self._publisher.settle(batch.in_flight, until)

    def _messages(self, row: Row[Any]) -> Iterator[Outgoing]:
        # The writer of an event chooses the stored version; the published versions are chosen here.
        if row.event is None:
            raise InvalidEvent(f"larger than {LARGEST_EVENT} bytes")
        types = self._sent_as.get(row.type, (row.type,))
        event = None if types == (row.type,) else codec.decode(msgspec.json.decode(row.event))
        for event_type in types:
            text = row.event
            if event and event_type != row.type:
                text = codec.encode(convert(event, event_type)).decode()
            yield Outgoing(row.event_id, event_type, text, row.subject)
