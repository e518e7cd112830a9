"""Alembic's environment: the tables of the analytics."""

from analytics_worker.models import Base
from eventbus.consumer.inbox import inbox
from eventbus.database import migrations

migrations.run(Base.metadata, common_tables=[inbox])
