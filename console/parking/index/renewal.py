"""The renewal of the index: which parking lots are read again, and when."""

from collections.abc import Mapping
from datetime import timedelta

from common.kombu_topology import CONSUMERS
from console.broker.state import Object, figure
from console.errors import ActionError, problem
from console.models import IndexedLotRow
from console.parking.index import rows
from console.parking.index.reading import LARGE, read
from console.settings import DiscardSettings
from eventbus.database.db import Sessions, transaction

#: A parking lot that has changed is read for at most this share of the time: other readers cannot
#: read its messages in the meantime.
SHARE = 0.2

#: The age at which a parking lot is read again although its number of messages is the same.
RECONCILED = timedelta(minutes=10)


def renew(settings: DiscardSettings, own: Sessions, totals: Mapping[str, Object]) -> None:
    """Read the large parking lots that have changed, and forget those that are small again.

    `totals` are the broker's counts. Raises `ActionError` naming the parking lots that could not be
    read, after all others were.
    """
    with transaction(own) as session:
        indexed = rows.lots(session)
    problems = []
    for service in CONSUMERS:
        count = figure(totals.get(service.parking_lot), "messages")
        last = indexed.get(service.name)
        if count is None:
            continue
        if count > LARGE and (last is None or _is_due(*last, count)):
            try:
                read(settings, service)
            except ActionError as error:
                problems.append(f"{service.parking_lot}: {problem(error)}")
        elif count <= LARGE and last:
            with transaction(own) as session:
                rows.forget(session, service.name)
    if problems:
        raise ActionError("; ".join(problems))


def _is_due(last: IndexedLotRow, age: timedelta, count: int) -> bool:
    if age >= RECONCILED:
        return True
    has_changed = bool(last.messages != count or last.unread)
    return has_changed and age.total_seconds() * SHARE >= last.seconds
