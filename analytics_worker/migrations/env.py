"""Alembic's entry: which tables the analytics' migrations are for."""

from analytics_worker.models import Base
from common import migrations
from common.inbox import inbox

migrations.run(Base.metadata, common_tables=[inbox])
