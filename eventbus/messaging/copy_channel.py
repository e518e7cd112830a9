"""A channel that publishes copies of failed messages and reports the outcome of each."""

from collections.abc import Callable
from dataclasses import dataclass, field

from amqp import Channel, Message

#: The header that identifies a returned copy.
TAG = "x-settlement"


@dataclass(eq=False, slots=True)
class Copy:
    """A copy of a message for a retry tier or for the parking lot."""

    message: Message
    exchange: str
    routing_key: str
    #: A function that returns whether this worker still holds the original; if it does not, a copy
    #: would be a duplicate.
    is_wanted: Callable[[], bool]
    #: A function that is called in the event loop with None, or with the reason why the broker
    #: rejected the copy.
    done: Callable[[str | None], object]
    #: The time (`time.monotonic()`) at which the broker first refused the copy.
    first_refused: float | None = field(default=None)
    is_concluded: bool = field(default=False)


class CopyChannel:
    """A channel in confirm mode, and the copies to which its delivery tags belong."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._tag = 0
        self.forget()
        channel.confirm_select()
        channel.events["basic_ack"].add(self._on_ack)
        channel.events["basic_nack"].add(self._on_nack)
        channel.events["basic_return"].add(self._on_return)

    def forget(self) -> None:
        """Start a new batch."""
        self.unconfirmed: dict[int, Copy] = {}
        self.confirmed: list[Copy] = []
        self.refused: list[Copy] = []
        #: Returned copies, each with the reason.
        self.returned: list[tuple[Copy, str]] = []

    def send(self, copy: Copy) -> None:
        """Publish a copy."""
        self._tag += 1
        copy.message.headers[TAG] = self._tag
        self.unconfirmed[self._tag] = copy
        self._channel.basic_publish(
            copy.message, exchange=copy.exchange, routing_key=copy.routing_key, mandatory=True
        )

    def close(self) -> None:
        """Close the channel; its connection stays open."""
        self._channel.close()

    def _on_ack(self, tag: int, multiple: bool) -> None:
        self.confirmed += self._take(tag, multiple)

    def _on_nack(self, tag: int, multiple: bool) -> None:
        self.refused += self._take(tag, multiple)

    def _on_return(self, _error: Exception, exchange: str, key: str, message: Message) -> None:
        # The broker sends a return before the ack of the same copy.
        copy = self.unconfirmed.pop(message.headers[TAG])
        self.returned.append((copy, f"{exchange} has no queue for {key}"))

    def _take(self, tag: int, multiple: bool) -> list[Copy]:
        tags = [t for t in self.unconfirmed if t <= tag] if multiple else [tag]
        return [self.unconfirmed.pop(t) for t in tags if t in self.unconfirmed]
