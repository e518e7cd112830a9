"""A service's database, with that service's own rights."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.orm import Session

from common import db
from common.kombu_topology import Service
from common.settings import DatabaseSettings as ServiceDatabase
from console.settings import DatabaseSettings, role_name


@contextmanager
def transaction(settings: DatabaseSettings, service: Service) -> Iterator[Session]:
    """Run the block in one transaction on a service's database."""
    engine = db.engine(
        ServiceDatabase(
            database_host=settings.database_host,
            database_port=settings.database_port,
            database_name=settings.database_name(service.name),
            database_user=role_name(service.name),
            database_password=settings.database_password(service.name),
        )
    )
    try:
        with db.transaction(db.sessions(engine)) as session:
            yield session
    finally:
        engine.dispose()
