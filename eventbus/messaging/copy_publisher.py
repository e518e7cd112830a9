"""A publisher for copies of failed messages, with confirms, on its own thread and connection.

When the broker is short of memory or disk space, it stops reading from connections that have
published. If the consuming connection published, its acknowledgements would not be read either, and
the queue could never drain. Therefore that connection never publishes, and the event loop never
waits for this module.
"""

import logging
import random
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Event, Thread

from eventbus.messaging.amqps import Connection
from eventbus.messaging.copy_channel import Copy, CopyChannel
from eventbus.telemetry.privacy import described

log = logging.getLogger(__name__)

#: Seconds within which the copies of a batch must be confirmed. After this time, the connection is
#: replaced, unless the broker has reported that it is blocked.
CONFIRM_TIMEOUT = 10.0

#: Maximum number of copies in flight.
BATCH_LIMIT = 100

#: Seconds for which the broker may refuse a copy before it counts as refused.
REFUSED_LIMIT = 60.0

#: First and longest backoff, in seconds, while the broker rejects copies.
FIRST_WAIT, LONGEST_WAIT = 0.2, 5.0

#: Seconds without a copy after which the connection is closed, because most workers rarely need it.
IDLE_LIMIT = 20.0

_TURN = 1.0


class CopyPublisher:
    """A publisher that accepts copies in the event loop, and reports each outcome there."""

    def __init__(
        self,
        connect: Callable[[], Connection],
        *,
        name: str,
        call_soon: Callable[[Callable[[], None]], object],
    ) -> None:
        """`connect` returns an unopened connection; `call_soon` must be thread-safe."""
        self._connect = connect
        self._name = name
        self._call_soon = call_soon
        self._waiting: SimpleQueue[Copy] = SimpleQueue()
        self._results: SimpleQueue[tuple[Copy, str | None]] = SimpleQueue()
        self._pending = 0
        self._stopping = Event()
        self._thread: Thread | None = None
        self._connection: Connection | None = None
        self._channel: CopyChannel | None = None
        self._blocked = False
        self._failures = 0
        self._used_at = 0.0

    def publish(self, copy: Copy) -> None:
        """Publish a copy as soon as the broker accepts it; return immediately."""
        self._pending += 1
        self._waiting.put(copy)
        if self._thread is None:
            # The thread starts with the first copy, which is after the pool has forked its
            # children.
            self._thread = Thread(target=self._run, name="copies", daemon=True)
            self._thread.start()

    def report(self) -> None:
        """Call `done` of each copy whose outcome is known. Must be called in the event loop."""
        with suppress(Empty):
            while True:
                copy, refusal = self._results.get_nowait()
                self._pending -= 1
                copy.done(refusal)

    def flush(self, timeout: float) -> None:
        """Wait up to `timeout` seconds until no copy is in flight. Call this in the event loop."""
        deadline = time.monotonic() + timeout
        while self._pending and time.monotonic() < deadline:
            time.sleep(0.01)
            self.report()

    def stop(self) -> None:
        """Stop the thread. Copies in flight are abandoned, and their originals are redelivered."""
        self._stopping.set()

    def _run(self) -> None:
        batch: list[Copy] = []
        while not self._stopping.is_set():
            batch = batch or self._next()
            try:
                self._send(batch)
            except Exception as error:
                self._fail(error)
            batch = [copy for copy in batch if not copy.is_concluded]
            if batch:
                self._pause()
        self._close()

    def _next(self) -> list[Copy]:
        batch: list[Copy] = []
        with suppress(Empty):
            batch.append(self._waiting.get(timeout=_TURN))
            while len(batch) < BATCH_LIMIT:
                batch.append(self._waiting.get_nowait())
        return batch

    def _send(self, batch: list[Copy]) -> None:
        """Publish copies, and conclude each copy whose outcome is known."""
        copies = [copy for copy in batch if not self._conclude_if_unwanted(copy)]
        if not copies:
            self._close_if_idle()
            return
        self._used_at = time.monotonic()
        channel = self._open_channel()
        try:
            for copy in copies:
                channel.send(copy)
            self._await_confirms(channel)
        finally:
            self._settle(channel)
        if channel.refused:
            # A channel whose first message was published while a queue's leader was down refuses
            # all later messages (RabbitMQ 3.10).
            self._channel = None
            channel.close()
            self._failures += 1
        else:
            self._failures = 0

    def _conclude_if_unwanted(self, copy: Copy) -> bool:
        is_unwanted = not copy.is_wanted()
        if is_unwanted:
            self._conclude(copy, "the original is gone")
        return is_unwanted

    def _await_confirms(self, channel: CopyChannel) -> None:
        deadline = time.monotonic() + CONFIRM_TIMEOUT
        while channel.unconfirmed and not self._stopping.is_set():
            self._drain(_TURN)
            now = time.monotonic()
            if self._blocked:
                # A blocked broker neither confirms nor drops messages.
                deadline = now + CONFIRM_TIMEOUT
            elif now > deadline:
                raise TimeoutError(f"no confirm within {CONFIRM_TIMEOUT:g} s")

    def _settle(self, channel: CopyChannel) -> None:
        for copy in channel.confirmed:
            self._conclude(copy, None)
        for copy, reason in channel.returned:
            self._conclude(copy, reason)
        now = time.monotonic()
        for copy in channel.refused:
            copy.first_refused = copy.first_refused or now
            if now - copy.first_refused > REFUSED_LIMIT:
                self._conclude(copy, "the broker refused the copy")

    def _conclude(self, copy: Copy, refusal: str | None) -> None:
        copy.is_concluded = True
        self._results.put((copy, refusal))
        self._call_soon(self.report)

    def _open_channel(self) -> "CopyChannel":
        if self._connection is None:
            connection = self._connect()
            connection.connect_timeout = 5
            # The dictionary is copied, because all connections of the app share it.
            connection.transport_options = (connection.transport_options or {}) | {
                "client_properties": {"connection_name": self._name},
                "on_blocked": lambda _reason: self._block(True),
                "on_unblocked": lambda: self._block(False),
            }
            self._blocked = False
            for _ in range(self._failures):
                # The nodes of a cluster are tried in turn, one per attempt.
                connection.maybe_switch_next()
            connection.ensure_connection(max_retries=0, reraise_as_library_errors=False)
            self._connection = connection
        if self._channel is None:
            self._channel = CopyChannel(self._connection.channel())
        self._channel.forget()
        return self._channel

    def _drain(self, timeout: float) -> None:
        assert self._connection is not None  # noqa: S101
        with suppress(TimeoutError):
            self._connection.drain_events(timeout=timeout)
        self._connection.heartbeat_check(rate=2)

    def _close_if_idle(self) -> None:
        if self._connection and time.monotonic() - self._used_at > IDLE_LIMIT:
            self._close()

    def _fail(self, error: Exception) -> None:
        if not self._failures:
            reason = described(error)
            log.warning("copies of failed messages delayed", extra={"reason": reason})
        self._failures += 1
        self._close()

    def _pause(self) -> None:
        backoff = min(FIRST_WAIT * 2 ** min(self._failures, 10), LONGEST_WAIT)
        self._stopping.wait(backoff * random.uniform(0.5, 1))  # noqa: S311 - no secret

    def _block(self, blocked: bool) -> None:
        log.warning("broker blocked copies" if blocked else "broker unblocked copies")
        self._blocked = blocked

    def _close(self) -> None:
        self._channel = None
        connection, self._connection = self._connection, None
        if connection:
            with suppress(Exception):
                connection.collect(socket_timeout=1)
