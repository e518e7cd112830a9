"""Alembic's entry point, with the tables of the console's migrations."""

from console.access.models import Base
from eventbus.database import migrations

migrations.run(Base.metadata)
