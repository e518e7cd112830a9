"""The secrets of a run in containers, as files that a container mounts one by one."""

import secrets
from pathlib import Path

from deploy.local import REPOSITORY
from deploy.local.ports import Ports
from deploy.local.servers import account, broker, credentials
from order_app.storage import api_keys

#: Where docker-compose.yml looks for them.
DIRECTORY = REPOSITORY / "deploy/compose/secrets"

#: The broker's configuration: it has the deployer's password in it.
BROKER_CONFIGURATION = "rabbitmq.conf"

#: The password of Grafana's user `admin`.
GRAFANA = "grafana.admin"

#: The key with which Prometheus asks the API for its metrics.
PROMETHEUS = "prometheus.api-key"

#: Where a container finds the authority's certificate, and the broker its own with its key.
CA_FILE = Path("/tls/trust/ca.crt")
BROKER_CERTIFICATE = Path("/tls/rabbitmq/rabbitmq.pem")


def names() -> list[str]:
    """Return the name of every file of a secret."""
    return [*credentials.names(), GRAFANA, PROMETHEUS, BROKER_CONFIGURATION]


def write(directory: Path) -> None:
    """Write every password and key that does not exist yet, and the broker's configuration.

    On this machine only the owner of the directory reaches them.
    """
    owner = account.invoking()
    owner.directory(directory)
    credentials.generate(directory)
    if not (directory / GRAFANA).exists():
        # Without a newline: Grafana would take it for a part of the password.
        owner.file(directory / GRAFANA, secrets.token_hex(24))
    if not (directory / PROMETHEUS).exists():
        # Until it is registered it opens nothing.
        owner.file(directory / PROMETHEUS, api_keys.generate() + "\n")
    owner.file(directory / BROKER_CONFIGURATION, _broker_configuration(directory))
    for name in names():
        # A container's user has another number than the owner, and it sees its own files only:
        # what keeps other users of this machine out is the directory.
        (directory / name).chmod(0o444)


def _broker_configuration(directory: Path) -> str:
    return broker.configuration(
        # A container has all its ports to itself.
        Ports.model_construct(),
        credentials.read(directory, credentials.DEPLOYER),
        ca_file=CA_FILE,
        server_file=BROKER_CERTIFICATE,
        address="0.0.0.0",  # noqa: S104, the network is the containers' own
    )
