"""Alembic's entry point, with the tables of the span store's migrations."""

from eventbus.database import migrations
from span_store.models import Base

migrations.run(Base.metadata)
