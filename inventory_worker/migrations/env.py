"""Alembic's entry: which tables the inventory's migrations are for."""

from eventbus.consumer.inbox import inbox
from eventbus.consumer.suspects import suspects
from eventbus.database import migrations
from eventbus.outbox.table import outbox, relay_state
from inventory_worker.models import Base

migrations.run(Base.metadata, common_tables=[outbox, inbox, relay_state, suspects])
