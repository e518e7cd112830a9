"""Settings for the administrator of a test's servers, whose databases may have any names."""

from collections.abc import Mapping
from typing import Any

from pydantic import SecretStr

from console.settings import DatabaseServer
from testkit.servers.infrastructure import Infrastructure
from testkit.servers.vhosts import Vhost


class Administration(DatabaseServer):
    """A base class of settings: the database server's administrator, and each database's name."""

    names: dict[str, str]
    postgres_password: SecretStr

    def login(self, _service: str) -> tuple[str, SecretStr]:
        """Return the administrator of the database server."""
        return "postgres", self.postgres_password

    def database_name(self, service: str) -> str:
        """Return the name of a service's database in the test."""
        return self.names[service]


def administration(
    servers: Infrastructure, vhost: Vhost, names: Mapping[str, str]
) -> dict[str, Any]:
    """Return the values of settings derived from `Administration`; `names` is keyed by service."""
    return {
        **vhost.administrator,
        "secrets_dir": servers.secrets_dir,
        "database_port": servers.postgres_port,
        "database_ca_file": servers.ca_file,
        "names": names,
        "postgres_password": servers.postgres_password,
    }
