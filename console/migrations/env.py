"""Alembic's entry point, with the tables of the console's migrations."""

from console.models import Base
from eventbus.database import migrations

migrations.run(Base.metadata)
