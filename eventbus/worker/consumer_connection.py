"""One connection of a worker: its deliveries, their batches and their settlement.

This state is created with the connection and ends with it. A batch that outlives its connection
still commits in its child process, but does not settle messages: the broker has redelivered them on
another connection, whose delivery tags start at 1.
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
    """The state of one connection, from its first delivery to its end."""

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        self._acknowledgements = Acknowledgements(consumer.connection_errors)
        self._settlement: Settlement = consumer.settlement
        self.batches = MicroBatches(self, consumer)
        self.is_open = True

    @property
    def is_stopping(self) -> bool:
        """Whether the worker is shutting down: closing the connection requeues its messages."""
        return self._consumer.blueprint.state in STOP_CONDITIONS

    def receive(self, message: Message) -> Receipt:
        """Register a delivery; called exactly once for each, regardless of its outcome."""
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
        """Park the message in the next iteration of the event loop."""
        self._consumer.call_soon(self._settle, receipt, self._settlement.park, cause)

    def retry(self, receipt: Receipt, cause: Cause) -> None:
        """Retry the message, or park it, in the next iteration of the event loop."""
        self._consumer.call_soon(self._settle, receipt, self._settlement.retry, cause)

    def close(self) -> None:
        """Forget all unsettled deliveries, and do not send or start anything afterwards."""
        self.is_open = False
        self._acknowledgements.close()
        self.batches.close()

    def _settle(self, receipt: Receipt, settle: Any, cause: Cause) -> None:
        # After the end of its connection, the message is back in its queue, and a copy would
        # duplicate it.
        if receipt.is_held():
            settle(receipt, cause)
