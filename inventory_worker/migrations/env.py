"""Alembic's environment: the tables of the inventory."""

from eventbus.database import migrations
from inventory_worker.models import Base

migrations.run(Base.metadata)
