"""The settings of `orderctl topology scale`, for a test's vhost and databases."""

from collections.abc import Mapping
from typing import Any

from pydantic import SecretStr

from console.settings import ScaleSettings
from testkit.servers.databases import TestDatabase
from testkit.servers.infrastructure import Infrastructure
from testkit.servers.vhosts import Vhost


class AdministratorSettings(ScaleSettings):
    """Settings with the administrator of the database server, for databases of any names."""

    names: dict[str, str]
    postgres_password: SecretStr

    def login(self, _service: str) -> tuple[str, SecretStr]:
        """Return the administrator of the database server."""
        return "postgres", self.postgres_password

    def database_name(self, service: str) -> str:
        """Return the name of the test's database of a service."""
        return self.names[service]


def scale_settings(
    servers: Infrastructure, broker: Vhost, databases: Mapping[str, TestDatabase], **changes: Any
) -> AdministratorSettings:
    """Return the settings for these databases, by service."""
    return AdministratorSettings(
        **broker.administrator,
        secrets_dir=servers.secrets_dir,
        database_port=servers.postgres_port,
        database_ca_file=servers.ca_file,
        names={name: str(database.url.database) for name, database in databases.items()},
        postgres_password=servers.postgres_password,
        **changes,
    )
