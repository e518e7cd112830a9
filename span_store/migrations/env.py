"""Alembic's entry: which tables the span store's migrations are for."""

from eventbus.database import migrations
from span_store.models import Base

migrations.run(Base.metadata)
