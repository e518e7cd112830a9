"""Handling of a service's deliveries, of one delivery or of many in one transaction."""

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from uuid import UUID

from eventbus.consumer import parked_events, poison
from eventbus.consumer.cause import Cause, Failed, Verdict
from eventbus.consumer.receive import Delivery, Handlers, Item, Result, receive_batch, receive_one
from eventbus.database.db import Sessions, transaction
from eventbus.errors import Outage, Permanent
from eventbus.telemetry.privacy import described
from eventbus.topology.service import Service

log = logging.getLogger(__name__)

#: A function that calls another function to handle these items, and reports their attempts.
Observe = Callable[[list[Item], Callable[[], None]], None]


class HandlerExit(Exception):
    """An exception in place of a handler's `SystemExit`, which an invalid setting also raises."""


@dataclass(frozen=True, kw_only=True)
class Handling:
    """The handling of one service's events, and the records of its parked events."""

    service: Service
    handlers: Handlers
    #: The number of retry tiers.
    tiers: int
    #: Errors that are not retried.
    permanent: tuple[type[Exception], ...] = (Permanent,)

    def handle(
        self,
        sessions: Sessions,
        deliveries: Sequence[Delivery],
        *,
        observe: Observe = lambda _items, work: work(),
    ) -> list[Result]:
        """Handle the deliveries in one transaction, and return their results.

        Raises `Failed` with the cause. If the event is parked for this cause, it is recorded before
        the method raises, and therefore before a later event of its subject can be handled.
        """
        items: list[Item] = []
        try:
            items += [Item.of(delivery, self.handlers) for delivery in deliveries]
            observe(items, lambda: self._handle(sessions, items))
        except Exception as error:
            cause = Cause.of(error, self.permanent)
            # An invalid event is recorded by the transaction that has found it to be invalid.
            is_recorded = any(item.error is error for item in items)
            if not is_recorded and self._is_parked(deliveries, cause):
                self.record(sessions, deliveries[0])
            raise Failed(cause) from None
        return [item.result for item in items]

    def record(self, sessions: Sessions, delivery: Delivery) -> None:
        """Record that an event is about to be parked.

        Raises `Failed` with an outage for any error, because an event must not be parked without a
        record.
        """
        try:
            with transaction(sessions) as session:
                parked_events.record(session, [delivery.body])
        except Exception as error:
            log.error("parked event not recorded", extra={"reason": described(error)})
            text = "a parked event cannot be recorded"
            raise Failed(Cause(Verdict.PAUSE, Outage.__name__, text)) from None

    def _handle(self, sessions: Sessions, items: Sequence[Item]) -> None:
        in_sequence = self.service.parks_in_sequence
        try:
            if len(items) > 1:
                receive_batch(sessions, self.handlers, items, in_sequence=in_sequence)
                return
            with _suspicion(sessions, items[0].delivery):
                receive_one(sessions, self.handlers, items[0], in_sequence=in_sequence)
        except SystemExit as error:
            # `SystemExit` would otherwise end the process, as if the message had crashed it. The
            # traceback is that of the handler.
            raise HandlerExit(str(error)).with_traceback(error.__traceback__) from None

    def _is_parked(self, deliveries: Sequence[Delivery], cause: Cause) -> bool:
        # Events of a batch are not recorded, because they are handled again, one by one. The main
        # process may decide otherwise about an event that was too slow.
        if not self.service.parks_in_sequence or len(deliveries) > 1:
            return False
        return cause.is_fault and cause.is_final(deliveries[0].attempts, self.tiers)


def _suspicion(sessions: Sessions, delivery: Delivery) -> AbstractContextManager[None]:
    if delivery.is_suspect:
        return poison.handling(sessions, UUID(delivery.event_id))
    return nullcontext()
