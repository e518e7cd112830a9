"""The reading of a large parking lot into the index, and of its failure groups.

A message is recognized by its description and its body, because the queue assigns no numbers. New
messages are at the end of the queue, so their rows are in the order of the queue.
"""

import time
from collections.abc import Iterator
from hashlib import sha256
from uuid import UUID

import msgspec
from sqlalchemy import func, select

from console.broker.other_readers import unread
from console.broker.parking_lot import ParkingLot, parking_lot
from console.errors import ActionError
from console.models import IndexedLotRow
from console.parking import memory
from console.parking.content import Content
from console.parking.groups import cause, grouped, key_of
from console.parking.index import rows, turn
from console.settings import DiscardSettings
from eventbus.database.db import Sessions, transaction
from eventbus.messaging.untrusted import BODY_LIMIT
from eventbus.topology.service import Service

#: Number of messages beyond which a parking lot is large. A page reads a smaller parking lot
#: itself, which takes less time than a database needs for as many rows.
LARGE = 500

#: Maximum number of messages of one parking lot that have a row, from the oldest, and maximum total
#: size in bytes of the bodies that are kept.
ROWS, BYTES = 100_000, 128 * 1024 * 1024

#: Number of rows that are stored in one transaction, after which the reading ends if a command
#: waits.
_BATCH = 500


def read(settings: DiscardSettings, service: Service) -> None:
    """Read a parking lot into the index, and remember its failure groups.

    All messages stay in place. Rows of messages that have left the parking lot are deleted, unless
    another reader holds messages, because such messages cannot be distinguished from messages that
    have left. Raises `ActionError` if a command has its turn or waits for it, in which case the
    last reading remains.
    """
    started = time.monotonic()
    with turn.of_index(settings, service.name) as own:
        filling = _Filling(own, service)
        with transaction(own) as session:
            read_at = session.scalars(select(func.clock_timestamp())).one()
            since = memory.last_seen(session, service)
        with parking_lot(settings, service) as lot:
            found = grouped((content.parked for content in filling.add(lot)), since)
            others = unread(settings, service, lot)
        with transaction(own) as session:
            memory.remember(session, service, found)
            if not others:
                rows.remove_rows(session, filling.gone)
            reading = IndexedLotRow(
                service=service.name,
                messages=filling.read,
                read_at=read_at,
                seconds=time.monotonic() - started,
                unread=others,
                groups=msgspec.to_builtins(found),
            )
            rows.store(session, reading)


class _Filling:
    """The storage of messages that have no row yet."""

    def __init__(self, own: Sessions, service: Service) -> None:
        self._own, self._service = own, service
        with transaction(own) as session:
            known = session.execute(rows.numbers(service.name)).all()
        #: The rows whose messages were not read so far, by fingerprint.
        self._left = {fingerprint: number for fingerprint, number, _ in known}
        self._known = set(self._left)
        self._bytes = sum(size for _, _, size in known)
        #: The number of messages that were read.
        self.read = 0

    @property
    def gone(self) -> list[int]:
        """The rows whose messages were not read."""
        return list(self._left.values())

    def add(self, lot: ParkingLot) -> Iterator[Content]:
        """Yield the messages of a parking lot, and store them."""
        batch: list[dict[str, object]] = []
        for message in lot.scan():
            content = Content.of(self._service, message)
            self.read += 1
            if row := self._row(content):
                batch.append(row)
            if self.read % _BATCH == 0:
                self._store(batch)
                batch = []
            yield content
        self._store(batch)

    def _row(self, content: Content) -> dict[str, object] | None:
        parked = msgspec.to_builtins(content.parked)
        fingerprint = UUID(bytes=sha256(msgspec.json.encode(parked)).digest()[:16])
        self._left.pop(fingerprint, None)
        if fingerprint in self._known or len(self._known) >= ROWS:
            return None
        self._known.add(fingerprint)
        is_kept = content.size <= BODY_LIMIT and self._bytes + content.size <= BYTES
        self._bytes += content.size * is_kept
        return {
            "service": self._service.name,
            "fingerprint": fingerprint,
            "event_id": content.parked.id,
            "order_id": content.parked.order_id,
            "digest": content.parked.digest,
            "group_key": key_of(*cause(content.parked)),
            "parked": parked,
            "headers": dict(content.headers),
            "size": content.size,
            "body": content.body if is_kept else None,
        }

    def _store(self, batch: list[dict[str, object]]) -> None:
        with transaction(self._own) as session:
            if batch:
                rows.add(session, batch)
            if turn.is_awaited(session, self._service.name):
                raise ActionError(f"a command waits for the parking lot of {self._service.name}")
