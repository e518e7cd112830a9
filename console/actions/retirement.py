"""The uses of an event type in the code, on the broker and in every service's database."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import func, select

from common.kombu_topology import EVENTS, SERVICES
from console.broker.connection import connected
from console.broker.management import Management
from console.broker.queue_inspection import Content, inspect_queue, inspect_stream
from console.broker.state import BrokerState, Object, figure
from console.databases.service_database import transaction
from console.settings import RetirementSettings
from eventbus.consumer.inbox import inbox
from eventbus.outbox.table import outbox
from eventbus.topology.limits import UNLIMITED
from eventbus.topology.service import Service
from eventbus.topology.users import MONITOR_QUEUE

#: The pattern of queues outside the topology that contain no events, namely the queues of
#: monitoring and of Celery itself.
_FOREIGN = re.compile(rf"{MONITOR_QUEUE}|(.*\.)?celery\.pidbox")


@dataclass(frozen=True, kw_only=True)
class Use:
    """One remaining use of a type; `count` is its number of messages, rows or events, if any."""

    #: `code`, `right`, `binding`, `outbox`, `queue`, `stream` or `consumer`.
    kind: str
    place: str
    text: str
    count: int | None = None

    def __str__(self) -> str:
        """Return the use as one line."""
        return f"{self.kind} {self.place}: {self.text}"


@dataclass(frozen=True, kw_only=True)
class Findings:
    """The remaining uses of a type, and the messages that could not be inspected."""

    uses: tuple[Use, ...]
    #: Descriptions of messages that could not be inspected. A message that a worker holds is
    #: listed, but does not count as a use, because it is handled in a moment, and its consumer is
    #: then found.
    unseen: tuple[str, ...]


def uses(
    settings: RetirementSettings,
    event_type: str,
    *,
    within: timedelta,
    services: Sequence[Service] = SERVICES,
) -> Findings:
    """Return every use of a type; messages are inspected, but never removed.

    A consumer uses the type if it has handled an event of the type `within` that time.
    """
    # Sources of new events come first, so that no event arrives after the queues are inspected.
    found = [*_code(event_type, services)]
    with Management(settings) as broker:
        state = BrokerState.read(broker)
    found += [*_rights(event_type, state, settings), *_bindings(event_type, state)]
    for service in services:
        if service.publishes:
            found += _outbox(event_type, settings, service)
    unseen = list[str]()
    ticks = {service.tick_queue(tick) for service in services for tick in service.ticks}
    with connected(settings, confirm_publish=True) as connection:
        for name, queue in sorted(state.queues.items()):
            if name in ticks or _FOREIGN.fullmatch(name):
                continue
            is_stream = queue["type"] == "stream"
            now = datetime.now(UTC)
            content = (
                inspect_stream(connection, name, now=now)
                if is_stream
                else inspect_queue(connection, name, limited=_is_limited(queue))
            )
            found += _messages(event_type, name, content, is_stream=is_stream)
            if not is_stream and (held := figure(queue, "messages_unacknowledged")) != 0:
                count = "an unknown number of" if held is None else f"about {held}"
                unseen.append(f"{name}: {count} messages held by a consumer")
    for service in services:
        if service.consumes:
            found += _consumer(event_type, settings, service, within)
    return Findings(uses=tuple(found), unseen=tuple(unseen))


def _code(event_type: str, services: Sequence[Service]) -> Iterator[Use]:
    for service in services:
        if event_type in service.published_types:
            text = "publishes it, according to the topology"
            yield Use(kind="code", place=service.name, text=text)
        if event_type in service.consumed_types:
            text = "consumes it, according to the topology"
            yield Use(kind="code", place=service.name, text=text)


def _rights(event_type: str, state: BrokerState, settings: RetirementSettings) -> Iterator[Use]:
    for (user, exchange), right in sorted(state.topic_permissions.items()):
        may = exchange == EVENTS.name and re.search(right["write"], event_type)
        if may and user != settings.broker_admin_user:
            yield Use(kind="right", place=f"user {user}", text="may publish it")


def _bindings(event_type: str, state: BrokerState) -> Iterator[Use]:
    for binding in state.bindings:
        key = binding["routing_key"]
        if binding["source"] == EVENTS.name and _matches(key, event_type):
            text = "would receive it" if key == event_type else f"would receive it, by {key}"
            yield Use(kind="binding", place=binding["destination"], text=text)


def _matches(pattern: str, key: str) -> bool:
    """Return whether a topic exchange routes this key to a queue that the pattern binds."""
    words = {"*": r"\.[^.]*", "#": r"(\.[^.]*)*"}
    parts = [words.get(word, rf"\.{re.escape(word)}") for word in pattern.split(".")]
    return re.fullmatch("".join(parts), f".{key}") is not None


def _outbox(event_type: str, settings: RetirementSettings, service: Service) -> Iterator[Use]:
    query = select(func.count()).where(outbox.c.sent_at.is_(None), outbox.c.type == event_type)
    with transaction(settings, service) as session:
        count = session.scalar(query.select_from(outbox)) or 0
    if count:
        yield Use(kind="outbox", place=service.name, text=f"{count} unsent", count=count)


def _is_limited(queue: Object) -> bool:
    return bool(queue["arguments"].get("x-delivery-limit") != UNLIMITED)


def _messages(event_type: str, name: str, content: Content, *, is_stream: bool) -> Iterator[Use]:
    kind = "stream" if is_stream else "queue"
    if count := content.types[event_type]:
        since = content.oldest.get(event_type)
        text = f"{count} messages" + (
            f", the oldest from {since:%Y-%m-%d %H:%M:%S} UTC" if since else ""
        )
        yield Use(kind=kind, place=name, text=text, count=count)
    if content.unseen:
        inspected = content.types.total()
        text = (
            f"{content.unseen} or more messages could not be inspected, after {inspected}: they may"
            " be of this type"
        )
        yield Use(kind=kind, place=name, text=text)


def _consumer(
    event_type: str, settings: RetirementSettings, service: Service, within: timedelta
) -> Iterator[Use]:
    recent = inbox.c.handled_at > func.now() - within
    query = select(func.count(), func.max(inbox.c.handled_at)).where(
        recent, inbox.c.type == event_type
    )
    with transaction(settings, service) as session:
        count, last = session.execute(query).one()
    if count:
        text = f"handled {count}, the last at {last.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
        yield Use(kind="consumer", place=service.name, text=text, count=count)
