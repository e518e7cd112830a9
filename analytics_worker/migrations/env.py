"""Alembic's environment: the tables of the analytics service."""

from analytics_worker.models import Base
from eventbus.database import migrations

migrations.run(Base.metadata)
