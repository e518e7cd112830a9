"""Acknowledgements of one consumer channel: one for a run of messages, where there is a run."""

import logging
from collections.abc import Iterable
from itertools import takewhile

from amqp import Channel
from kombu.message import Message

log = logging.getLogger(__name__)


class Acknowledgements:
    """Knows every delivery that is not settled, so that it never acknowledges one too many.

    `multiple` settles all deliveries up to a tag: it is used only when each of them is done.
    """

    def __init__(self, errors: tuple[type[Exception], ...]) -> None:
        self._errors = errors
        #: Delivery tags, the oldest first, as the broker counts them.
        self._open: dict[int, None] = {}

    def expect(self, message: Message) -> None:
        """Remember a delivery; call it for each, in the order of their arrival."""
        self._open[message.delivery_tag] = None

    def acknowledge(self, messages: Iterable[Message]) -> None:
        """Acknowledge these deliveries, which came through one channel.

        When the connection is gone the broker delivers them again.
        """
        tags = {message.delivery_tag: message.channel for message in messages}
        done = {tag for tag in tags if tag in self._open}
        if not done:
            return
        channel = tags[next(iter(done))]
        run = list(takewhile(done.__contains__, self._open))
        for tag in done:
            del self._open[tag]
        try:
            if run:
                _open(channel).basic_ack(run[-1], multiple=len(run) > 1)
            for tag in sorted(done.difference(run)):
                _open(channel).basic_ack(tag)
        except self._errors as error:
            log.warning("messages could not be acknowledged", extra={"reason": str(error)})

    def reject(self, message: Message, *, requeue: bool = False) -> None:
        """Give a delivery back to its queue, or to the queue's dead-letter exchange."""
        if message.delivery_tag not in self._open:
            return
        del self._open[message.delivery_tag]
        try:
            _open(message.channel).basic_reject(message.delivery_tag, requeue)
        except self._errors as error:
            log.warning("a message could not be rejected", extra={"reason": str(error)})


def _open(channel: Channel) -> Channel:
    if channel is None or channel.connection is None:
        raise ConnectionError("the connection is gone")
    return channel
