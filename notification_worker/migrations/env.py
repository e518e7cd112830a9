"""Alembic's entry: which tables the notification service's migrations are for."""

from common import migrations
from common.inbox import inbox
from common.overflow import overflow
from common.suspects import suspects
from notification_worker.models import Base

migrations.run(Base.metadata, common_tables=[inbox, suspects, overflow])
