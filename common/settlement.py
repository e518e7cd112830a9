"""How a message that was not handled leaves its queue: to a retry tier, or to the parking lot.

A copy that tells why is published to the service's own retry exchange; the original is
acknowledged when the broker has confirmed the copy. A crash in between repeats the message and
never loses it. Nothing here waits: the confirms arrive through the worker's event loop.
"""

import logging
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from amqp import Channel
from amqp import Message as AmqpMessage
from kombu.message import Message

from common import metrics, tracing
from common.failure import Failure
from common.kombu_topology import PARKED, Service, tier_key

log = logging.getLogger(__name__)

#: Bytes of properties beyond which a copy is not made: they would not fit into one AMQP frame.
PROPERTIES_LIMIT = 64 * 1024

#: A retry waits for a random part of its tier, at least this one, so that a crowd of failed
#: messages does not come back at once. (A queue expires messages at its head only, so that some
#: wait for the one ahead of them: never longer than the tier.)
JITTER_FLOOR = 0.8

_TAG = "x-settlement"

Done = Callable[[], object]


@dataclass(frozen=True)
class Receipt:
    """A message as it was received, and the two ways to be done with it."""

    message: Message
    headers: dict[str, Any]
    acknowledge: Done
    #: To the dead-letter exchange: parked too, but without the reason.
    reject: Done


class Settlement:
    """Retries and parks the messages of one consumer connection, through channels of its own."""

    def __init__(
        self,
        open_channel: Callable[[], Channel],
        *,
        service: Service,
        retry_tiers: Sequence[float],
        release: str,
    ) -> None:
        self._open_channel = open_channel
        self._service = service
        self._tiers = retry_tiers
        self._release = release
        #: Of each channel, by delivery tag.
        self._unconfirmed: dict[Channel, dict[int, Receipt]] = {}
        self._use_new_channel()

    def retry(self, receipt: Receipt, error: BaseException) -> None:
        """Send the message through the retry tier of this attempt; after the last, park it."""
        retries = receipt.headers["retries"]
        if retries >= len(self._tiers):
            self.park(receipt, error)
            return
        seconds = self._tiers[retries]
        metrics.RETRIES.labels(receipt.headers["task"], tier_key(seconds)).inc()
        wait = seconds * random.uniform(JITTER_FLOOR, 1)  # noqa: S311 - no secret
        self._settle(
            receipt,
            error,
            routing_key=tier_key(seconds),
            retries=retries + 1,
            expiration=str(max(1, int(wait * 1000))),
        )

    def park(self, receipt: Receipt, error: BaseException) -> None:
        """Send the message to the parking lot, with the reason in its headers."""
        metrics.PARKED.labels(type(error).__name__).inc()
        self._settle(receipt, error, routing_key=PARKED)

    def flush(self, timeout: float) -> None:
        """Wait until every copy is confirmed, so that a stopping worker repeats no message.

        `timeout` in seconds, for each answer of the broker.
        """
        while any(self._unconfirmed.values()):
            self._channel.connection.drain_events(timeout=timeout)

    def _settle(
        self, receipt: Receipt, error: BaseException, *, routing_key: str, **changes: Any
    ) -> None:
        if self._refused:
            self._use_new_channel()
        failure = Failure.of(
            error, service=self._service.name, release=self._release, headers=receipt.headers
        )
        fields = _log_fields(receipt, failure, routing_key)
        copy = _copy(receipt, failure, tag=self._tag + 1, **changes)
        if copy is None:
            log.error("a message that cannot carry its reason is parked without it", extra=fields)
            receipt.reject()
            return
        self._tag += 1
        self._unconfirmed[self._channel][self._tag] = receipt
        self._channel.basic_publish(
            copy, exchange=self._service.retry_exchange, routing_key=routing_key, mandatory=True
        )
        log.warning("an event was not handled", extra=fields)

    def _use_new_channel(self) -> None:
        # For a moment this does wait. A channel whose first copy came while a queue's leader had
        # died refuses all that follow, until that node is back: every retry would be parked.
        for idle in [channel for channel, copies in self._unconfirmed.items() if not copies]:
            del self._unconfirmed[idle]
            idle.close()
        channel = self._channel = self._open_channel()
        channel.confirm_select()
        channel.events["basic_ack"].add(partial(self._on_ack, channel))
        channel.events["basic_nack"].add(partial(self._on_nack, channel))
        channel.events["basic_return"].add(partial(self._on_return, channel))
        self._unconfirmed[channel] = {}
        self._tag = 0
        self._refused = False

    def _on_ack(self, channel: Channel, tag: int, multiple: bool) -> None:
        for receipt in self._settled(channel, tag, multiple):
            receipt.acknowledge()

    def _on_nack(self, channel: Channel, tag: int, multiple: bool) -> None:
        self._refused = True
        for receipt in self._settled(channel, tag, multiple):
            log.error("the broker refused a copy: the message is parked without its reason")
            receipt.reject()

    def _on_return(
        self, channel: Channel, _error: Exception, exchange: str, key: str, copy: AmqpMessage
    ) -> None:
        # The broker sends a return before the ack of the same copy.
        log.error("%s has no queue for %s: run `orderctl topology plan`", exchange, key)
        self._unconfirmed[channel].pop(copy.headers[_TAG]).reject()

    def _settled(self, channel: Channel, tag: int, multiple: bool) -> Iterator[Receipt]:
        copies = self._unconfirmed[channel]
        tags = [t for t in copies if t <= tag] if multiple else [tag]
        for settled in tags:
            if settled in copies:
                yield copies.pop(settled)


def _copy(
    receipt: Receipt,
    failure: Failure,
    *,
    tag: int,
    retries: int | None = None,
    expiration: str | None = None,
) -> AmqpMessage | None:
    # Headers in x- are the broker's (x-death would feed its cycle detection) or ours, made anew.
    headers = {k: v for k, v in receipt.headers.items() if not str(k).startswith("x-")}
    if not receipt.message.errors:
        headers.pop("compression", None)  # the body was decompressed on arrival
    headers |= failure.to_headers() | {_TAG: tag}
    if retries is not None:
        headers["retries"] = retries
    properties = dict(receipt.message.properties)
    # The broker takes no `user_id` but the publisher's; the author's was checked on arrival.
    properties.pop("user_id", None)
    properties |= {"application_headers": headers, "expiration": expiration, "delivery_mode": 2}
    copy = AmqpMessage(receipt.message.body, **properties)
    # What a stranger put into the properties may not survive the way back onto the wire.
    with suppress(Exception):
        if len(copy._serialize_properties()) <= PROPERTIES_LIMIT:
            return copy
    return None


def _order_id(message: Message) -> str | None:
    with suppress(Exception):
        return str(message.payload[1]["event"]["subject"])
    return None


def _log_fields(receipt: Receipt, failure: Failure, routing_key: str) -> dict[str, Any]:
    parked = routing_key == PARKED
    return {
        "event_id": str(receipt.headers.get("id")),
        "order_id": _order_id(receipt.message),
        "trace_id": tracing.trace_id(receipt.headers.get("traceparent")),
        "event_type": str(receipt.headers.get("task")),
        "attempt": failure.attempts,
        "exception": failure.exception,
        "reason": failure.text,
        "outcome": "parked" if parked else "retry",
    } | ({} if parked else {"tier": routing_key})
