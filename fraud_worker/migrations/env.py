"""Alembic's environment: the tables of the fraud check."""

from eventbus.database import migrations
from fraud_worker.models import Base

migrations.run(Base.metadata)
