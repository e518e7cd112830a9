"""The age beyond which an event is not redriven."""

from datetime import UTC, datetime

from amqp import Message

from console.broker.parked_message import event_time
from console.settings import RedriveSettings


def is_too_old(message: Message, settings: RedriveSettings) -> bool:
    """Return whether the inbox row of a message's event may have been deleted."""
    # A message without a time is not an event for its service either, and has no effect.
    time = event_time(message)
    return time is not None and datetime.now(UTC) - time > settings.redrive_limit
