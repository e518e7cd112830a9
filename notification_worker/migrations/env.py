"""Alembic's environment: the tables of the notification service."""

from eventbus.catch_up.overflow import overflow
from eventbus.consumer.inbox import inbox
from eventbus.consumer.operator_pause import operator_pause
from eventbus.consumer.parked_events import parked_events
from eventbus.consumer.poison import suspects
from eventbus.database import migrations
from notification_worker.models import Base

migrations.run(
    Base.metadata, common_tables=[inbox, suspects, operator_pause, parked_events, overflow]
)
