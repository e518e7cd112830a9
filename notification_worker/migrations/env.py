"""Alembic's environment: the tables of the notification service."""

from eventbus.database import migrations
from notification_worker.models import Base

migrations.run(Base.metadata)
