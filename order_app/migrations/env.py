"""Alembic's environment: the tables of the order service."""

from eventbus.database import migrations
from order_app.storage.models import Base

migrations.run(Base.metadata)
