"""A service's database in the state of an earlier release."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import URL, create_engine, pool

_REPOSITORY = Path(__file__).parents[2]


def downgrade(package: str, url: URL, revision: str) -> None:
    """Downgrade a migrated database to a revision."""
    config = Config()
    config.set_main_option("script_location", str(_REPOSITORY / package / "migrations"))
    config.set_main_option("path_separator", "newline")
    with create_engine(url, poolclass=pool.NullPool).connect() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, revision)
