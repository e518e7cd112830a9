"""Acknowledgements of one consumer channel: one for a run of messages, where there is a run."""

import logging
from collections.abc import Iterable
from itertools import takewhile

from amqp import Channel
from kombu.message import Message

log = logging.getLogger(__name__)


class Acknowledgements:
    """Knows every delivery that is not settled, so that it never acknowledges one too many.

    `multiple` settles all deliveries up to a tag: it is used only when each of them is done. Tags
    are counted by channel: these are one channel's, and closed with it.
    """

    def __init__(self, errors: tuple[type[Exception], ...]) -> None:
        self._errors = errors
        #: Delivery tags, the oldest first, as the broker counts them.
        self._open: dict[int, None] = {}

    def expect(self, message: Message) -> None:
        """Remember a delivery; call it for each, in the order of their arrival."""
        self._open[message.delivery_tag] = None

    def holds(self, message: Message) -> bool:
        """Return whether a delivery waits to be settled."""
        return message.delivery_tag in self._open

    def close(self) -> None:
        """Forget every delivery: the broker delivers each again, on another channel."""
        self._open.clear()

    def acknowledge(self, messages: Iterable[Message]) -> None:
        """Acknowledge these deliveries; one that is settled already is left out."""
        done = {m.delivery_tag: m for m in messages if self.holds(m)}
        run = list(takewhile(done.__contains__, self._open))
        try:
            if run:
                _open(done[run[-1]]).basic_ack(run[-1], multiple=len(run) > 1)
                self._forget(run)
            for tag in sorted(done.keys() - run):
                _open(done[tag]).basic_ack(tag)
                self._forget([tag])
        except self._errors as error:
            log.warning("messages could not be acknowledged", extra={"reason": str(error)})

    def reject(self, message: Message, *, requeue: bool = False) -> None:
        """Give a delivery back to its queue, or to the queue's dead-letter exchange."""
        if not self.holds(message):
            return
        try:
            _open(message).basic_reject(message.delivery_tag, requeue)
            self._forget([message.delivery_tag])
        except self._errors as error:
            log.warning("a message could not be rejected", extra={"reason": str(error)})

    def _forget(self, tags: Iterable[int]) -> None:
        for tag in tags:
            del self._open[tag]


def _open(message: Message) -> Channel:
    channel = message.channel
    if channel is None or channel.connection is None:
        raise ConnectionError("the connection is gone")
    return channel
