"""Alembic's environment: the tables of the library."""

import eventbus.catch_up.overflow
import eventbus.consumer.inbox
import eventbus.consumer.operator_pause
import eventbus.consumer.parked_events
import eventbus.consumer.poison
import eventbus.outbox.table  # noqa: F401 - each import adds its tables to the metadata
from eventbus.database import db, migrations

migrations.run(db.metadata)
