"""One connection of a worker: what it has delivered, in which batches, and how each is settled.

All of it is made when the connection is, and ends with it. A batch that outlives its connection
still commits in its child process, but settles nothing: the broker has delivered its messages
again, on another connection whose delivery tags begin at 1.
"""

from functools import partial
from typing import Any

from celery.worker.consumer.consumer import STOP_CONDITIONS
from kombu.message import Message

from eventbus.consumer.cause import Cause
from eventbus.worker.acknowledgements import Acknowledgements
from eventbus.worker.micro_batches import MicroBatches
from eventbus.worker.settlement import Receipt, Settlement


class ConsumerConnection:
    """The life of one connection, from its first delivery to its end."""

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        self._acknowledgements = Acknowledgements(consumer.connection_errors)
        self._settlement: Settlement = consumer.settlement
        self.batches = MicroBatches(self, consumer)
        self.is_open = True

    @property
    def is_stopping(self) -> bool:
        """Whether the worker ends: what it has not settled goes back with the connection."""
        return self._consumer.blueprint.state in STOP_CONDITIONS

    def receive(self, message: Message) -> Receipt:
        """Take a delivery; each one passes here once, whatever becomes of it."""
        self._acknowledgements.expect(message)
        return Receipt(
            message=message,
            headers=dict(message.headers),
            acknowledge=partial(self._acknowledgements.acknowledge, [message]),
            reject=partial(self._acknowledgements.reject, message),
            is_held=partial(self._acknowledgements.holds, message),
        )

    def acknowledge(self, messages: list[Message]) -> None:
        """Acknowledge deliveries whose effects are committed."""
        self._acknowledgements.acknowledge(messages)

    def park(self, receipt: Receipt, cause: Cause) -> None:
        """Park the message at the event loop's next turn."""
        self._consumer.call_soon(self._settle, receipt, self._settlement.park, cause)

    def retry(self, receipt: Receipt, cause: Cause) -> None:
        """Send the message through a retry tier at the event loop's next turn."""
        self._consumer.call_soon(self._settle, receipt, self._settlement.retry, cause)

    def close(self) -> None:
        """Let go of all that is not settled: from now on nothing is sent or begun."""
        self.is_open = False
        self._acknowledgements.close()
        self.batches.close()

    def _settle(self, receipt: Receipt, settle: Any, cause: Cause) -> None:
        # The copy of a message that is back in its queue would be one too many.
        if receipt.is_held():
            settle(receipt, cause)
