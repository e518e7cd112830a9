"""Changing the number of parts of a service's queue while orders are processed.

The relays of the services that publish to the queue are held, so events wait in the outboxes. The
parts are drained before the routes change, so at any time, the events of one order are in one part.
Every exit releases the relays. One change runs at a time, for all services together.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from sqlalchemy import Connection

from common.kombu_topology import CONSOLE, SERVICES, topology
from console.actions.topology import plan
from console.broker import division
from console.broker.management import Management
from console.broker.state import BrokerState
from console.broker.topology_diff import MISSING, SECOND_ROUTE
from console.databases.service_database import sessions
from console.errors import ActionError
from console.scaling.parts import Changed, Scaling
from console.settings import DatabaseSettings, ScaleSettings
from eventbus.database.db import engine_of
from eventbus.outbox import slots
from eventbus.topology.objects import Topology
from eventbus.topology.service import Service

#: Seconds to wait for the relays of one outbox. A relay normally releases its lock every second,
#: and at the latest after the longest wait for the broker's confirms.
HOLD_PATIENCE = 60.0

_ACQUIRE = "SELECT pg_try_advisory_lock(hashtext('scale'))"

#: A function that is called with a description of each step when the step begins.
Begun = Callable[[str], None]


def scale(
    settings: ScaleSettings, service: Service, parts: int, *, begun: Begun, changed: Changed
) -> int:
    """Give a service's queue this number of parts, and return the previous number.

    Raises `ActionError`. Nothing is changed if another change is under way, if the relays or the
    workers do not finish in time, or if the broker differs from the code in another way. After a
    later failure the previous parts are restored; if that fails as well, the error states both
    failures.
    """
    with Management(settings) as broker, ExitStack() as stack:
        held = [stack.enter_context(_only_change(settings))]
        _require_no_drift(settings)
        for publisher in _publishers(service):
            begun(f"holding the relays of {publisher.name}")
            held.append(stack.enter_context(_held(settings, publisher)))
        # The broker is compared after the waits, during which another program may have changed it.
        numbers = division.actual(BrokerState.read(broker), settings.parts)
        before = numbers[service.name]
        begun(f"waiting until the parts of {service.queue} are empty")
        scaling = Scaling(settings, broker, service, changed)
        scaling.await_empty(replace(service, parts=before).queues)
        for connection in held:
            # A connection that was lost in the meantime has released its relays, or the lock.
            connection.exec_driver_sql("SELECT")
        _change(scaling, _wanted(settings, numbers, service, parts), _wanted(settings, numbers))
    return before


def _change(scaling: Scaling, wanted: Topology, previous: Topology) -> None:
    try:
        scaling.make(wanted)
    except (ActionError, KeyboardInterrupt) as error:
        reason = str(error) or "interrupted"
        try:
            scaling.make(previous)
        except ActionError as second:
            raise ActionError(
                f"{reason}; the previous parts are not restored either: {second}; run the command"
                " again with the previous number"
            ) from None
        raise ActionError(f"{reason}; the previous parts are restored") from None


def _wanted(
    settings: ScaleSettings,
    numbers: Mapping[str, int],
    service: Service | None = None,
    parts: int = 1,
) -> Topology:
    changed = {service.name: parts} if service else {}
    return topology(retry_tiers=settings.retry_tiers, parts={**numbers, **changed})


def _require_no_drift(settings: ScaleSettings) -> None:
    for difference in plan(settings).differences:
        # An earlier run may have been interrupted.
        is_interrupted = difference.problem in (MISSING, SECOND_ROUTE)
        is_expected = difference.kind == division.KIND or is_interrupted
        if not (is_expected or difference.is_harmless):
            raise ActionError(
                f"nothing is changed while the broker differs from the code: {difference}"
            )


def _publishers(service: Service) -> Iterator[Service]:
    for publisher in SERVICES:
        if set(publisher.published_types) & set(service.consumed_types):
            yield publisher


@contextmanager
def _only_change(settings: DatabaseSettings) -> Iterator[Connection]:
    """Keep other commands from changing numbers of parts during the block."""
    with sessions(settings, CONSOLE) as database, engine_of(database).connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        if not connection.exec_driver_sql(_ACQUIRE).scalar():
            raise ActionError("another command changes a number of parts: wait until it ends")
        yield connection


@contextmanager
def _held(settings: DatabaseSettings, publisher: Service) -> Iterator[Connection]:
    """Keep the relays of a service from publishing during the block."""
    with sessions(settings, publisher) as database, engine_of(database).connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        try:
            slots.hold_outbox(connection, HOLD_PATIENCE)
        except TimeoutError:
            raise ActionError(
                f"the relays of {publisher.name} have not released its outbox for"
                f" {HOLD_PATIENCE:.0f} seconds"
            ) from None
        yield connection
