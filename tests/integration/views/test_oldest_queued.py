"""The age of the oldest queued event, from the outboxes and the inbox."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import insert, text
from uuid_utils.compat import uuid7

from common.kombu_topology import INVENTORY, ORDER
from console.actions.oldest_queued import age_of_oldest
from console.databases.service_database import Databases, transaction
from console.settings import DatabaseSettings
from eventbus.consumer.inbox import inbox
from eventbus.database.db import Sessions
from eventbus.outbox.table import outbox
from testkit.data.page_reads import counted

#: Pages that the queries may read, regardless of the number of events.
FEW = 200


@pytest.fixture
def kept(installed: DatabaseSettings) -> Databases:
    """The databases of the system."""
    return Databases(installed, pool_size=1)


def publish(
    installed: DatabaseSettings,
    *,
    seconds: int,
    event_type: str = "order.created",
    is_sent: bool = True,
) -> UUID:
    """Store an event of the order service that was created some time ago, and return its id."""
    at, event_id = datetime.now(UTC) - timedelta(seconds=seconds), uuid7()
    with transaction(installed, ORDER) as session:
        session.execute(
            insert(outbox),
            {
                "event_id": event_id,
                "type": event_type,
                "subject": uuid4(),
                "event": "{}",
                "created_at": at,
                "sent_at": at if is_sent else None,
            },
        )
    return event_id


def handle(installed: DatabaseSettings, event_id: UUID) -> None:
    row = {"event_id": event_id, "type": "order.created", "source": "order", "subject": uuid4()}
    at = {"attempts": 1, "occurred_at": datetime.now(UTC)}
    with transaction(installed, INVENTORY) as session:
        session.execute(insert(inbox), row | at)


def test_the_oldest_event_is_the_first_after_the_one_that_was_handled_last(
    installed: DatabaseSettings, kept: Databases
) -> None:
    # Given a handled event, and events that follow it
    handle(installed, publish(installed, seconds=500))
    publish(installed, seconds=400, event_type="order.confirmed")
    publish(installed, seconds=300, is_sent=False)
    publish(installed, seconds=200)
    publish(installed, seconds=100)

    # Then the first one that was sent, of a consumed type, is the oldest
    assert age_of_oldest(kept, INVENTORY) == pytest.approx(200, abs=20)


def test_the_age_is_zero_if_the_newest_event_is_handled(
    installed: DatabaseSettings, kept: Databases
) -> None:
    handle(installed, publish(installed, seconds=100))

    assert age_of_oldest(kept, INVENTORY) == 0


def test_the_age_is_unknown_before_the_first_event_is_handled(
    installed: DatabaseSettings, kept: Databases
) -> None:
    publish(installed, seconds=100)

    assert age_of_oldest(kept, INVENTORY) is None


def test_the_age_costs_the_same_with_many_events(
    installed: DatabaseSettings, kept: Databases
) -> None:
    # Given many events after the one that was handled last
    handle(installed, publish(installed, seconds=500))
    with transaction(installed, ORDER) as session:
        session.execute(
            text(
                "INSERT INTO outbox (event_id, type, subject, event, created_at, sent_at)"
                " SELECT ('ffffffff-' || substr(gen_random_uuid()::text, 10))::uuid,"
                " 'order.created', gen_random_uuid(), '{}', now(), now()"
                " FROM generate_series(1, 30000)"
            )
        )
    age_of_oldest(kept, INVENTORY)

    # When the age is computed
    sessions: Sessions = kept._sessions[ORDER.name]
    with counted(sessions) as read:
        age_of_oldest(kept, INVENTORY)

    # Then few pages are read
    assert 0 < sum(read) <= FEW + 500
