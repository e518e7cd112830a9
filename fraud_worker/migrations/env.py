"""Alembic's entry: which tables the fraud check's migrations are for."""

from common import migrations
from common.inbox import inbox
from common.outbox import outbox, relay_state
from common.overflow import overflow
from common.suspects import suspects
from fraud_worker.models import Base

migrations.run(Base.metadata, common_tables=[outbox, inbox, relay_state, suspects, overflow])
