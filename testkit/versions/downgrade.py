"""A service's database in the state of an earlier release."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import URL, create_engine, pool

from eventbus.database.migrations import LIBRARY_VERSION, SERVICE_VERSION
from eventbus.topology.service import Service

_REPOSITORY = Path(__file__).parents[2]


def downgrade(service: Service, url: URL, revision: str) -> None:
    """Downgrade the service's own revisions in a migrated database to a revision.

    If the revision is `base`, the revisions of the library are reverted first.
    """
    if revision == "base" and service.library_tables:
        downgrade_library(url, "base")
    _downgrade(service.package, SERVICE_VERSION, url, revision)


def downgrade_library(url: URL, revision: str) -> None:
    """Downgrade a table of the library to one of its revisions, or all of them to `base`."""
    _downgrade("eventbus", LIBRARY_VERSION, url, revision)


def _downgrade(package: str, version_table: str, url: URL, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(_REPOSITORY / package / "migrations"))
    config.set_main_option("path_separator", "newline")
    with create_engine(url, poolclass=pool.NullPool).connect() as connection:
        config.attributes |= {"connection": connection, "version_table": version_table}
        command.downgrade(config, revision)
