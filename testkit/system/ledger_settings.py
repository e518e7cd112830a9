"""The operator's settings of the ledger, for the databases of a system under test."""

from console.settings import RestoreSettings
from testkit.servers.administration import Administration, administration
from testkit.system.installation import RETRY_TIERS, Installation


class _Settings(Administration, RestoreSettings):
    pass


def ledger_settings(installation: Installation) -> RestoreSettings:
    """Return the settings of `orderctl reconcile` and `restore` for an installation."""
    names = {name: str(each.url.database) for name, each in installation.databases.items()}
    return _Settings(
        **administration(installation.servers, installation.vhost, names), retry_tiers=RETRY_TIERS
    )
