"""Delivery of past events to a service: its queue is bound, then the events are copied to it.

The stream is read by a broker user that has no other task. Events from before the queue was bound
are history: their copies are marked as replayed, and have no external side effects. Events that
were in transit at that moment may or may not arrive live, so their copies are not marked, and the
inbox drops duplicates.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from common.kombu_topology import STREAM
from console.actions import topology
from console.broker.backfill import Copies
from console.broker.connection import connected
from console.broker.topology_diff import Difference
from console.errors import ActionError
from console.settings import TopologySettings
from eventbus.catch_up.past_event import PastEvent
from eventbus.messaging.publisher import CONFIRM_TIMEOUT
from eventbus.messaging.stream import Entry, Start, Stream, watermark
from eventbus.topology.limits import STREAM_AGE
from eventbus.topology.service import Service

#: The broker user that may read the stream and write to queues.
REPLAYER = "replayer"

#: Seconds from the binding until the watermark is taken. An event that was in transit at the time
#: of the binding has by then been confirmed, and is below the watermark, or its relay has given up,
#: and will publish it again, live.
SETTLED = CONFIRM_TIMEOUT + 1.0

#: Maximum number of messages that are read and copied together.
BATCH = 500

#: Seconds to wait for messages of the stream in one read, and in total before the action fails.
_READ_TIMEOUT, _STALL_TIMEOUT = 0.5, 60.0


@dataclass(slots=True)
class Progress:
    """The progress of a subscription."""

    #: The offset from which an interrupted run continues; None before the first message.
    offset: int | None = None
    #: The offset at which the subscription ends, as far as it is known.
    end: int = 0
    #: Number of copies on the queue.
    copied: int = 0
    #: Number of events that are skipped, because the inbox may no longer contain the rows of
    #: handled events.
    too_old: int = 0


Report = Callable[[Progress], None]
Changed = Callable[[Difference], None]


def subscribe(
    settings: TopologySettings, service: Service, start: Start, *, report: Report, changed: Changed
) -> Progress:
    """Bind the service's queue, and copy the stream to it from `start` to the present.

    On return, every event since `start` is or was on the queue. Raises `ActionError`; another run,
    from the same start or from the last offset, continues.
    """
    password = settings.broker_password(REPLAYER)
    if password is None:
        file = settings.secrets_dir / f"{REPLAYER}.broker"
        raise ActionError(f"password file {file} does not exist")
    progress = Progress()
    with (
        connected(settings, REPLAYER, password) as reading,
        connected(settings, REPLAYER, password) as writing,
    ):
        history = progress.end = _watermark(writing)
        _bind(settings, changed)
        settled = time.monotonic() + SETTLED
        copies = Copies(writing, service.queue)
        with closing(Stream(reading, STREAM, start, prefetch=BATCH)) as stream:
            # New events arrive in the meantime, so the end is known only once the binding has
            # settled.
            while time.monotonic() < settled:
                _copy(stream.read(BATCH, _READ_TIMEOUT), copies, service, progress, history)
                report(progress)
            progress.end = _watermark(writing)
            read_at = time.monotonic()
            while stream.position < progress.end:
                entries = stream.read(BATCH, _READ_TIMEOUT)
                if entries:
                    read_at = time.monotonic()
                elif time.monotonic() - read_at > _STALL_TIMEOUT:
                    raise ActionError(
                        f"the stream stalled at offset {stream.position}, before {progress.end}"
                    )
                _copy(entries, copies, service, progress, history)
                report(progress)
    return progress


def _watermark(connection: Any) -> int:
    try:
        return watermark(connection, STREAM)
    except TimeoutError as error:
        raise ActionError(str(error)) from None


def _bind(settings: TopologySettings, changed: Changed) -> None:
    for difference in topology.apply(settings):
        changed(difference)
        if difference.remedy and not difference.is_harmless:
            raise ActionError(
                f"nothing is replayed while the broker differs from the code: {difference}"
            )


def _copy(
    entries: Sequence[Entry], copies: Copies, service: Service, progress: Progress, history: int
) -> None:
    """Copy the events that the service consumes; mark events below the offset `history`."""
    oldest = datetime.now(UTC) - STREAM_AGE
    consumed = service.consumed_types
    messages = []
    for entry in entries:
        if entry.message.headers.get("task") not in consumed:
            continue
        past = PastEvent.of(entry)
        if past.time and past.time < oldest:
            progress.too_old += 1
        else:
            messages.append(past.copy(replayed=entry.offset < history))
    if messages:
        copies.put(messages)
    progress.copied += len(messages)
    if entries:
        progress.offset = entries[-1].offset + 1
