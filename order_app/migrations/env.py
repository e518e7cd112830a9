"""Alembic's entry: which tables the order service's migrations are for."""

from common import migrations
from common.inbox import inbox
from common.outbox import outbox, relay_state
from common.suspects import suspects
from order_app.models import Base

migrations.run(Base.metadata, common_tables=[outbox, inbox, relay_state, suspects])
