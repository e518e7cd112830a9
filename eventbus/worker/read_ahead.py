"""Reads from the broker all that has arrived, instead of one frame at each turn of the event loop.

A message is three frames. py-amqp changes the socket's mode twice for each, and kombu's hub polls
after each message: on a busy worker that is half of what a message costs.
"""

from collections import deque
from typing import Any

from amqp import Connection

#: Frames read in one go: some hundred messages. Then the event loop turns.
LIMIT = 300


def read_ahead(connection: Connection) -> None:
    """Let this connection, which an event loop reads without waiting, read ahead."""
    frames: deque[tuple[Any, ...]] = deque()
    transport, read_waiting = connection.transport, connection.blocking_read

    def fetch() -> None:
        try:
            with transport.having_timeout(0):
                while len(frames) < LIMIT:
                    frames.append(transport.read_frame())
        except OSError:
            # What is read comes first. An error that lasts is met again at the next read.
            if not frames:
                raise

    def read(timeout: float | None = None) -> bool:
        if not frames:
            if timeout != 0:
                return bool(read_waiting(timeout))
            fetch()
        handled = connection.on_inbound_frame(frames.popleft())
        # `drain_events` goes on until it hears that something was handled: until all is.
        return bool(handled) and not frames

    connection.blocking_read = read
