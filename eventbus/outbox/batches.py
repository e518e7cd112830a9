"""Batches of an outbox's rows, sent together in the versions in which their facts go out."""

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


@dataclass(frozen=True)
class Batch:
    """Rows that were claimed together, on their way to the broker."""

    rows: Rows
    in_flight: InFlight
    #: When it was claimed.
    began: float
    #: Where its events waited, if they did.
    lane: Lane | None = None


class Batches:
    """Sends batches, and waits for what becomes of them."""

    def __init__(self, publisher: Publisher, sent_as: Sequence[str]) -> None:
        """`sent_as` are the versions in which a fact goes out, if not in the one that it is in."""
        self._publisher = publisher
        self._sent_as = {version: tuple(sent_as) for t in sent_as for version in versions(t)}

    def send(self, rows: Rows, began: float, lane: Lane | None = None) -> Batch:
        """Publish these rows' events in this order, and wait for nothing."""
        messages: list[Outgoing] = []
        invalid: dict[UUID, str] = {}
        for row in rows:
            try:
                messages += self._messages(row)
            except Exception as error:
                # Whatever is wrong with one event: the others go on.
                invalid[row.event_id] = f"{type(error).__name__}: {error}"
        in_flight = self._publisher.send(messages, aside=lane is not None)
        in_flight.report.invalid |= invalid
        return Batch(rows, in_flight, began, lane)

    def settle(self, batch: Batch, until: float = inf) -> Report | None:
        """Return what became of a batch, or None if that is not known at `until`."""
        return self._publisher.settle(batch.in_flight, until)

    def _messages(self, row: Row[Any]) -> Iterator[Outgoing]:
        # A row has whichever version its writer was set to; what goes out is decided here.
        if row.event is None:
            raise InvalidEvent(f"larger than {LARGEST_EVENT} bytes")
        types = self._sent_as.get(row.type, (row.type,))
        event = None if types == (row.type,) else codec.decode(msgspec.json.decode(row.event))
        for event_type in types:
            text = row.event
            if event and event_type != row.type:
                text = codec.encode(convert(event, event_type)).decode()
            yield Outgoing(row.event_id, event_type, text, row.subject)
