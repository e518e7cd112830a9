"""Gives a service the past: its queue is bound first, then history is put on it up to the present.

The stream is read as a user that can do nothing else. What it holds from before the queue was bound
is history: its copies say so, and nobody outside is told of it again. What was on its way just then
may come live, or not: its copies are as they were, and the inbox drops what comes both ways.
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

#: Seconds after the binding until the watermark is taken. An event that was on its way before the
#: binding has then been confirmed, and so is below it, or its relay has given up, and sends it
#: again, live.
SETTLED = CONFIRM_TIMEOUT + 1.0

#: Messages that are read, and put on the queue, together.
BATCH = 500

#: Seconds to wait for the stream: for one look, and until it must have come to the watermark.
_LOOK, _LIMIT = 0.5, 60.0


@dataclass(slots=True)
class Progress:
    """How far it is."""

    #: Where it goes on, if it is stopped here; None before the first message.
    offset: int | None = None
    #: Where it ends, as far as that is known.
    end: int = 0
    #: Copies on the queue.
    copied: int = 0
    #: Events that are left out: older than what the inbox is sure to know.
    too_old: int = 0


Tell = Callable[[Progress], None]
Changed = Callable[[Difference], None]


def subscribe(
    settings: TopologySettings, service: Service, start: Start, *, tell: Tell, changed: Changed
) -> Progress:
    """Bind the service's queue, and put on it what the stream holds from `start` to the present.

    When it returns, every event since `start` is on the queue, or was. Raises `ActionError`; run
    again, from the begin or from where it was, it does the rest.
    """
    password = settings.broker_password(REPLAYER)
    if password is None:
        raise ActionError(f"no password file {settings.secrets_dir / REPLAYER}.broker")
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
            # The present goes on meanwhile: the end is known only when all is settled.
            while time.monotonic() < settled:
                _copy(stream.read(BATCH, _LOOK), copies, service, progress, history)
                tell(progress)
            progress.end = _watermark(writing)
            heard = time.monotonic()
            while stream.position < progress.end:
                entries = stream.read(BATCH, _LOOK)
                if entries:
                    heard = time.monotonic()
                elif time.monotonic() - heard > _LIMIT:
                    raise ActionError(
                        f"the stream does not go on at {stream.position}, before {progress.end}"
                    )
                _copy(entries, copies, service, progress, history)
                tell(progress)
    return progress


def _watermark(connection: Any) -> int:
    try:
        return watermark(connection, STREAM)
    except TimeoutError as error:
        raise ActionError(str(error)) from None


def _bind(settings: TopologySettings, changed: Changed) -> None:
    for found in topology.apply(settings):
        changed(found)
        if found.remedy and not found.is_harmless:
            raise ActionError(f"nothing is replayed while the topology is not as it must: {found}")


def _copy(
    entries: Sequence[Entry], copies: Copies, service: Service, progress: Progress, history: int
) -> None:
    """Copy what the service consumes; what is below the offset `history` says so."""
    oldest = datetime.now(UTC) - STREAM_AGE
    messages = []
    for entry in entries:
        if entry.message.headers.get("task") not in service.consumed_types:
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
