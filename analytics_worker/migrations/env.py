"""Alembic's environment: the tables of the analytics."""

from analytics_worker.models import Base
from eventbus.database import migrations

migrations.run(Base.metadata)
