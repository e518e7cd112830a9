"""Settlement of messages that were not handled: they move to a retry tier or to the parking lot.

A copy with the reason is published to the service's retry exchange, and the original is
acknowledged once the broker has confirmed the copy. A crash in between can duplicate the message,
but never lose it. This module does not block: `eventbus.messaging.copy_publisher` waits for the
broker in its own thread.
"""

import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from amqp import Message as AmqpMessage
from kombu.message import Message

from eventbus.consumer.cause import Cause
from eventbus.consumer.failure import Failure
from eventbus.events import codec
from eventbus.events.catalogue import current
from eventbus.messaging.copy_channel import TAG, Copy
from eventbus.messaging.message_copy import copy_of, own_headers
from eventbus.messaging.untrusted import text
from eventbus.telemetry import metrics, tracing
from eventbus.topology.service import PARKED, Service, tier_key

log = logging.getLogger(__name__)

#: A retry waits for a random fraction of its tier's delay, at least this fraction, to avoid a
#: thundering herd of failed messages. A queue expires messages only at its head, so some messages
#: wait for the message ahead of them, but never longer than the tier's delay.
JITTER_FLOOR = 0.8

Done = Callable[[], object]


@dataclass(frozen=True)
class Receipt:
    """A message as it was received, and the two ways to settle it.

    Both belong to the connection that delivered the message, and are no-ops once it has ended.
    """

    message: Message
    headers: dict[str, Any]
    acknowledge: Done
    #: A function that rejects the message to the dead-letter exchange, which parks it without the
    #: reason. With `requeue`, it returns the message to its queue.
    reject: Callable[..., object]
    #: A function that returns whether the connection that delivered the message is open.
    is_held: Callable[[], bool]


class Settlement:
    """The settlement of one service's failed messages in its retry tiers and parking lot."""

    def __init__(
        self,
        publish: Callable[[Copy], None],
        *,
        service: Service,
        retry_tiers: Sequence[float],
        release: str,
    ) -> None:
        self._publish = publish
        self._service = service
        self._tiers = retry_tiers
        self._release = release

    def is_final(self, receipt: Receipt, cause: Cause) -> bool:
        """Return whether the message is parked after this failure, instead of being retried."""
        return cause.is_final(receipt.headers["retries"] + 1, len(self._tiers))

    def needs_record(self, receipt: Receipt, cause: Cause) -> bool:
        """Return whether a service that parks in sequence must first record that it is parked.

        A child process records the event itself if its handler has raised the cause.
        """
        is_unrecorded = cause.is_crash or not cause.is_fault
        in_sequence = self._service.parks_in_sequence
        return in_sequence and is_unrecorded and self.is_final(receipt, cause)

    def retry(self, receipt: Receipt, cause: Cause) -> None:
        """Send the message to the retry tier of this attempt; park it if the failure is final."""
        if self.is_final(receipt, cause):
            self.park(receipt, cause)
            return
        retries = receipt.headers["retries"]
        seconds = self._tiers[retries]
        metrics.RETRIES.labels(receipt.headers["task"], tier_key(seconds)).inc()
        wait = seconds * random.uniform(JITTER_FLOOR, 1)  # noqa: S311 - no secret
        self._settle(
            receipt,
            cause,
            routing_key=tier_key(seconds),
            retries=retries + 1,
            expiration=str(max(1, int(wait * 1000))),
        )

    def park(self, receipt: Receipt, cause: Cause) -> None:
        """Send the message to the parking lot, with the reason in its headers."""
        metrics.PARKED.labels(cause.exception).inc()
        self._settle(receipt, cause, routing_key=PARKED)

    def _settle(self, receipt: Receipt, cause: Cause, *, routing_key: str, **changes: Any) -> None:
        failure = Failure.of(
            cause, service=self._service.name, release=self._release, headers=receipt.headers
        )
        outcome = "retry" if routing_key != PARKED else "waiting" if cause.is_wait else "parked"
        fields = _log_fields(receipt, failure, outcome)
        fields |= {"tier": routing_key} if routing_key != PARKED else {}
        message = _copy(receipt, failure, **changes)
        if message is None:
            log.error("uncopyable message parked without its reason", extra=fields)
            receipt.reject()
            return
        exchange, done = self._service.retry_exchange, partial(self._done, receipt)
        self._publish(Copy(message, exchange, routing_key, receipt.is_held, done))
        level = logging.INFO if cause.is_wait else logging.WARNING
        log.log(level, "event not handled", extra=fields)

    def _done(self, receipt: Receipt, refusal: str | None) -> None:
        if refusal is None:
            receipt.acknowledge()
        elif receipt.is_held():
            fields = {"event_id": text(receipt.headers.get("id")), "reason": refusal}
            log.error("message parked without its reason", extra=fields)
            receipt.reject()


def _copy(
    receipt: Receipt,
    failure: Failure,
    *,
    retries: int | None = None,
    expiration: str | None = None,
) -> AmqpMessage | None:
    headers = own_headers(receipt.headers) | failure.to_headers() | {TAG: 0}
    if retries is not None:
        headers["retries"] = retries
    message = receipt.message
    return copy_of(message.body, message.properties, headers, expiration=expiration)


def _log_fields(receipt: Receipt, failure: Failure, outcome: str) -> dict[str, Any]:
    return {
        "event_id": text(receipt.headers.get("id")),
        current().id_field: codec.subject(receipt.message.body),
        "trace_id": tracing.trace_id(receipt.headers.get("traceparent")),
        "event_type": text(receipt.headers.get("task")),
        "attempt": failure.attempts,
        "exception": failure.exception,
        "reason": failure.text,
        "outcome": outcome,
    }
