"""Acknowledgements on one consumer channel, each of which covers consecutive messages."""

import logging
from collections.abc import Iterable
from itertools import takewhile

from amqp import Channel
from kombu.message import Message

from eventbus.telemetry.privacy import described

log = logging.getLogger(__name__)


class Acknowledgements:
    """The unsettled deliveries of one channel, and the acknowledgements sent for them.

    An acknowledgement with `multiple` settles all deliveries up to a tag, so it is used only if all
    of them are done. Delivery tags are scoped to a channel: this object belongs to one channel and
    is closed with it.
    """

    def __init__(self, errors: tuple[type[Exception], ...]) -> None:
        self._errors = errors
        #: Delivery tags, oldest first, in the broker's order.
        self._open: dict[int, None] = {}

    def expect(self, message: Message) -> None:
        """Record a delivery. Call this for every delivery, in order of arrival."""
        self._open[message.delivery_tag] = None

    def holds(self, message: Message) -> bool:
        """Return whether a delivery is not settled yet."""
        return message.delivery_tag in self._open

    def close(self) -> None:
        """Forget every delivery, because the broker redelivers all of them on another channel."""
        self._open.clear()

    def acknowledge(self, messages: Iterable[Message]) -> None:
        """Acknowledge deliveries, except those that are already settled."""
        done = {m.delivery_tag: m for m in messages if self.holds(m)}
        run = list(takewhile(done.__contains__, self._open))
        try:
            if run:
                _channel(done[run[-1]]).basic_ack(run[-1], multiple=len(run) > 1)
                self._forget(run)
            for tag in sorted(done.keys() - run):
                _channel(done[tag]).basic_ack(tag)
                self._forget([tag])
        except self._errors as error:
            log.warning("acknowledgement failed", extra={"reason": described(error)})

    def reject(self, message: Message, *, requeue: bool = False) -> None:
        """Return a delivery to its queue, or send it to the queue's dead-letter exchange."""
        if not self.holds(message):
            return
        try:
            _channel(message).basic_reject(message.delivery_tag, requeue)
            self._forget([message.delivery_tag])
        except self._errors as error:
            log.warning("rejection failed", extra={"reason": described(error)})

    def _forget(self, tags: Iterable[int]) -> None:
        for tag in tags:
            del self._open[tag]


def _channel(message: Message) -> Channel:
    channel = message.channel
    if channel is None or channel.connection is None:
        raise ConnectionError("the connection has ended")
    return channel
