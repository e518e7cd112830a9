"""The operator's settings of the ledger, for the databases of a system under test."""

from pydantic import SecretStr

from console.settings import RestoreSettings
from testkit.system.installation import RETRY_TIERS, Installation


class _Settings(RestoreSettings):
    names: dict[str, str]
    postgres_password: SecretStr

    def login(self, _service: str) -> tuple[str, SecretStr]:
        """Return the administrator of the database server."""
        return "postgres", self.postgres_password

    def database_name(self, service: str) -> str:
        """Return the name of the test's database of a service."""
        return self.names[service]


def ledger_settings(installation: Installation) -> RestoreSettings:
    """Return the settings of `orderctl reconcile` and `restore` for an installation."""
    return _Settings(
        **installation.vhost.administrator,
        secrets_dir=installation.servers.secrets_dir,
        database_port=installation.servers.postgres_port,
        database_ca_file=installation.servers.ca_file,
        names={name: str(each.url.database) for name, each in installation.databases.items()},
        postgres_password=installation.servers.postgres_password,
        retry_tiers=RETRY_TIERS,
    )
