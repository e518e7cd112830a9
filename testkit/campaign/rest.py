"""The state of rest, in which every program is healthy, and every event is sent and handled."""

import time
from collections.abc import Callable, Iterator
from uuid import UUID

from common.kombu_topology import CONSUMERS, SERVICES
from console.ledger.account import Account, OutboxEvent
from testkit.campaign.system import System
from testkit.eventually import eventually
from testkit.processes.stack import RETRY_TIERS
from testkit.servers.vhosts import Vhost

#: Seconds without progress after which a system is stuck. This is longer than any backoff, and than
#: the lease of a killed mailer's claims (60 seconds).
PATIENCE = 120.0

#: Seconds between two checks, so that checking does not load the machine.
_PAUSE = 0.3

_UNSENT = "SELECT count(*) FROM outbox WHERE sent_at IS NULL"
_PENDING = "SELECT count(*) FROM orders WHERE status = 'PENDING'"
_HANDLED = "SELECT count(*) FROM inbox"
_SENT = "SELECT count(*) FROM notifications WHERE status = 'SENT'"

# After a second unknown outcome, an email waits for an hour.
_DUE = """
SELECT count(*) FROM notifications
WHERE status = 'PENDING' AND next_attempt_at < now() + interval '10 minutes'
"""

# A reader applies the stream in order, so the last events are sufficient.
_LAST = "SELECT concat(event_id, ' ', type) FROM outbox ORDER BY id DESC LIMIT 20"
_APPLIED = "SELECT event_id FROM inbox WHERE event_id = ANY(:ids)"


def wait_until_drained(system: System) -> None:
    """Wait until every program is healthy, every event is sent and no queue has messages.

    Raises `AssertionError` with the reason if there is no progress for `PATIENCE` seconds.
    """
    _wait(system, _drained)


def wait_until_at_rest(system: System) -> None:
    """Wait as `wait_until_drained` does, and also for decisions, emails and analytics."""
    _wait(system, _at_rest)


def _wait(system: System, claim: Callable[[System], None]) -> None:
    def examined() -> None:
        time.sleep(_PAUSE)
        system.supervise()
        claim(system)

    eventually(examined, within=PATIENCE, progress=lambda: tuple(_progress(system)))


def _drained(system: System) -> None:
    ailing = system.ailing()
    assert ailing == [], f"not healthy: {', '.join(ailing)}"
    for service in SERVICES:
        if service.publishes:
            unsent = _count(system, service.name, _UNSENT)
            assert unsent == 0, f"{unsent} events of the {service.name} service are unsent"
    waiting = _waiting(system.stack.vhost)
    assert waiting == {}, f"queues are not empty: {waiting}"


def _at_rest(system: System) -> None:
    _drained(system)
    pending = _count(system, "order", _PENDING)
    assert pending == 0, f"{pending} orders are PENDING"
    due = _count(system, "notification", _DUE)
    assert due == 0, f"{due} emails are due"
    unread = _unread(system)
    assert unread == {}, f"events in the stream are unread: {unread}"


def _waiting(vhost: Vhost) -> dict[str, int]:
    """Return the number of ready messages in each event or retry queue that is not empty."""
    names = [
        name
        for service in CONSUMERS
        for name in (service.queue, *map(service.retry_queue, RETRY_TIERS))
    ]
    with vhost.connect() as connection:
        channel = connection.default_channel
        ready = {name: channel.queue_declare(name, passive=True).message_count for name in names}
    return {name: count for name, count in ready.items() if count}


def _unread(system: System) -> dict[str, list[str]]:
    """Return the last events that a reader of the stream has yet to apply, by reader."""
    stack = system.stack
    sent = [
        OutboxEvent(UUID(event_id), event_type, None)
        for service in SERVICES
        if service.publishes
        for event_id, event_type in map(str.split, stack.execute(service.name, _LAST))
    ]
    unread = {}
    for reader in SERVICES:
        if reader.reads_stream:
            owed = {event.id: event for event in Account(service=reader).owed(sent)}
            for event_id in stack.execute(reader.name, _APPLIED, ids=list(owed)):
                del owed[event_id]
            if owed:
                unread[reader.name] = [f"{event.type} {event.id}" for event in owed.values()]
    return unread


def _progress(system: System) -> Iterator[int]:
    yield _count(system, "order", _PENDING)
    yield _count(system, "notification", _SENT)
    for service in SERVICES:
        yield _count(system, service.name, _HANDLED)
        if service.publishes:
            yield _count(system, service.name, _UNSENT)


def _count(system: System, service: str, query: str) -> int:
    (count,) = system.stack.execute(service, query)
    return int(count)
