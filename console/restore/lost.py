"""Events that a service has published but that a restored outbox no longer contains."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from console.ledger.books import Books
from console.restore.published import Published, published
from console.settings import LedgerSettings
from eventbus.messaging.stream import Start
from eventbus.topology.service import Service

#: Maximum number of ids in a list. All ids are counted.
LIMIT = 1_000

#: Maximum time by which a row of an outbox is deleted too early, because of the difference between
#: the clocks of the broker and the database.
_SLACK = timedelta(hours=1)


@dataclass
class Named:
    """A limited number of ids, and the total number of ids.

    Beyond the limit, an id that is added twice counts twice.
    """

    count: int = 0
    _ids: dict[UUID, None] = field(default_factory=dict)

    @property
    def ids(self) -> list[UUID]:
        """The ids that are kept, in the order in which they were added."""
        return list(self._ids)

    def add(self, ids: Iterable[UUID]) -> None:
        """Count ids."""
        for each in ids:
            if each not in self._ids:
                self.count += 1
                if len(self._ids) < LIMIT:
                    self._ids[each] = None


def lost(
    settings: LedgerSettings, books: Books, senders: Sequence[Service], start: Start
) -> Iterator[tuple[Service, list[Published]]]:
    """Yield each service with events of the stream that its outbox does not contain, in batches.

    An outbox contains each event before the event is published, and deletes it much later; events
    that may have been deleted are skipped. An event that was published twice may be yielded twice.
    Raises `ActionError`, and the errors of the databases.
    """
    kept = datetime.now(UTC) - timedelta(days=settings.outbox_retention_days) + _SLACK
    for batch in published(settings, senders, start):
        for sender in senders:
            mine = [each for each in batch if each.event.source == sender.name and each.at > kept]
            if not mine:
                continue
            known = {event.id for event in books.find(sender.name, [each.id for each in mine])}
            if absent := [each for each in mine if each.id not in known]:
                yield sender, absent
