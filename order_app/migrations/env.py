"""Alembic's environment: the tables of the order service."""

from eventbus.consumer.inbox import inbox
from eventbus.consumer.operator_pause import operator_pause
from eventbus.consumer.parked_events import parked_events
from eventbus.consumer.poison import suspects
from eventbus.database import migrations
from eventbus.outbox.table import outbox, relay_state
from order_app.storage.models import Base

migrations.run(
    Base.metadata,
    common_tables=[outbox, inbox, relay_state, suspects, operator_pause, parked_events],
)
