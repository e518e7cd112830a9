"""Faults of messages: messages that are sent again, purged, unroutable, rejected or hostile."""

from contextlib import suppress

import httpx

from common.kombu_topology import FRAUD, NOTIFICATION, ORDER, SERVICES, STREAM, service
from testkit.campaign.fault import Fault, ProgramFault
from testkit.campaign.system import BROKER, DATABASE, WORKERS
from testkit.programs.poisoned import POISON
from testkit.servers.bindings import bind, full_queue, unbind_everywhere
from testkit.wire.corpus import messages
from testkit.wire.publisher import wire_publisher

#: Number of events of each outbox that are sent again.
_RESENT = 30

_RESEND = """
UPDATE outbox SET sent_at = NULL WHERE id IN (
    SELECT id FROM outbox WHERE sent_at IS NOT NULL ORDER BY md5(id || :seed) LIMIT :limit
) RETURNING id
"""

#: Types that only the notification service and the stream receive, and that every order causes.
_CONFIRMED = "order.confirmed"

#: Number of hostile messages, and their event, which is a reply about an order that does not exist
#: and has no effect.
_HOSTILE = 100
_REJECTED = {"shortages": [{"sku": "TEA", "requested": 2, "available": 1}]}

#: An order that does not exist either, and that is never judged.
_LINES = [{"sku": "TEA", "quantity": 1, "unit_price": 500}]
_POISONED = {"customer_email": POISON, "currency": "EUR", "total": 500, "lines": _LINES}


class Resend(Fault):
    """Events that were sent are sent again, as after a restored backup of an outbox."""

    name = "resend"

    def choose(self) -> None:
        self.targets = frozenset({DATABASE})
        self._seed = str(self.rng.random())

    def inject(self) -> None:
        for sender in SERVICES:
            if sender.publishes:
                found = self.stack.execute(sender.name, _RESEND, seed=self._seed, limit=_RESENT)
                self.system.resent += len(found)


class Purge(ProgramFault):
    """A queue is purged while its worker is down. Only the ledger can restore its events."""

    name = "purge"
    hold = (2.0, 4.0)
    candidates = WORKERS

    def choose(self) -> None:
        super().choose()
        self.targets |= {BROKER}

    def inject(self) -> None:
        self.system.kill(self.detail, keep_down=True)

    def heal(self) -> None:
        queue = service(self.detail.removesuffix("-worker")).queue
        self.system.needs_repair = True
        self.stack.vhost.request("DELETE", f"/queues/{self.stack.vhost.name}/{queue}/contents")
        self.system.release(self.detail)


class Unbind(Fault):
    """An event type is unbound from every queue, so the broker returns its events.

    The bindings are deleted and created one after the other, so an event that is published in the
    meantime reaches only some of the queues. Only the ledger can restore it.
    """

    name = "unbind"

    def choose(self) -> None:
        self.targets = frozenset({BROKER})

    def inject(self) -> None:
        self.system.needs_repair = True
        unbind_everywhere(self.stack.vhost, _CONFIRMED)

    def heal(self) -> None:
        for queue in (NOTIFICATION.queue, STREAM):
            bind(self.stack.vhost, queue, _CONFIRMED)


class FullQueue(Fault):
    """A full queue rejects an event type."""

    name = "full-queue"

    def choose(self) -> None:
        self.targets = frozenset({BROKER})

    def inject(self) -> None:
        self._queue = full_queue(self.stack.vhost, _CONFIRMED)

    def heal(self) -> None:
        with suppress(httpx.HTTPStatusError):
            self.stack.vhost.request("DELETE", f"/queues/{self.stack.vhost.name}/{self._queue}")


class Hostile(Fault):
    """Hostile messages arrive in the queue of the order service."""

    name = "hostile"

    def choose(self) -> None:
        self.targets = frozenset({BROKER})
        self._seed = self.rng.randrange(2**32)

    def inject(self) -> None:
        replies = {"stock.rejected": ("inventory", _REJECTED)}
        with wire_publisher(self.stack.vhost) as publisher:
            for message in messages(self._seed, _HOSTILE, replies, good=10**9):
                publisher.publish("", ORDER.queue, message.properties, message.body)
            publisher.settle()


class Poison(Fault):
    """An event kills the worker of the fraud check whenever it is handled, until it is parked."""

    name = "poison"

    def choose(self) -> None:
        self.targets = frozenset({"fraud-worker", BROKER})
        self._seed = self.rng.randrange(2**32)

    def prepare(self) -> None:
        self.system.modules["fraud-worker"] = "testkit.programs.poisoned.fraud_worker"

    def inject(self) -> None:
        created = {"order.created": ("order", _POISONED)}
        (message,) = messages(self._seed, 1, created, good=1)
        with wire_publisher(self.stack.vhost) as publisher:
            publisher.publish("", FRAUD.queue, message.properties, message.body)
            publisher.settle()
