"""The settings of `orderctl topology scale`, for a test's vhost and databases."""

from collections.abc import Mapping
from typing import Any

from console.settings import ScaleSettings
from testkit.servers.administration import Administration, administration
from testkit.servers.databases import TestDatabase
from testkit.servers.infrastructure import Infrastructure
from testkit.servers.vhosts import Vhost


class AdministratorSettings(Administration, ScaleSettings):
    """Settings with the administrator of the database server."""


def scale_settings(
    servers: Infrastructure, broker: Vhost, databases: Mapping[str, TestDatabase], **changes: Any
) -> AdministratorSettings:
    """Return the settings for these databases, by service."""
    names = {name: str(database.url.database) for name, database in databases.items()}
    return AdministratorSettings(**administration(servers, broker, names), **changes)
