"""The secrets of a run in containers, as files that containers mount individually."""

import secrets
from pathlib import Path

from deploy.local import REPOSITORY
from deploy.local.ports import Ports
from deploy.local.servers import account, broker, credentials
from order_app.storage import api_keys

#: The directory from which docker-compose.yml mounts them.
DIRECTORY = REPOSITORY / "deploy/compose/secrets"

#: The broker's configuration, which contains the deployer's password.
BROKER_CONFIGURATION = "rabbitmq.conf"

#: The password of Grafana's user `admin`.
GRAFANA = "grafana.admin"

#: The API key with which Prometheus scrapes the API's metrics.
PROMETHEUS = "prometheus.api-key"

#: Paths in a container: the CA's certificate, and the broker's certificate with its key.
CA_FILE = Path("/tls/trust/ca.crt")
BROKER_CERTIFICATE = Path("/tls/rabbitmq/rabbitmq.pem")


def names() -> list[str]:
    """Return the name of every secret file."""
    return [*credentials.names(), GRAFANA, PROMETHEUS, BROKER_CONFIGURATION]


def write(directory: Path) -> None:
    """Write every missing password and key, and the broker's configuration.

    On this machine, only the owner of the directory can access them.
    """
    owner = account.invoking()
    owner.directory(directory)
    credentials.generate(directory)
    if not (directory / GRAFANA).exists():
        # The file has no newline, because Grafana would treat it as part of the password.
        owner.file(directory / GRAFANA, secrets.token_hex(24))
    if not (directory / PROMETHEUS).exists():
        # The key has no effect until it is registered.
        owner.file(directory / PROMETHEUS, api_keys.generate() + "\n")
    owner.file(directory / BROKER_CONFIGURATION, _broker_configuration(directory))
    for name in names():
        # A container's user has another id than the owner, and only its own files are mounted. The
        # mode of the directory excludes the other users of this machine.
        (directory / name).chmod(0o444)


def _broker_configuration(directory: Path) -> str:
    return broker.configuration(
        # A container has all ports to itself.
        Ports.model_construct(),
        credentials.read(directory, credentials.DEPLOYER),
        ca_file=CA_FILE,
        server_file=BROKER_CERTIFICATE,
        address="0.0.0.0",  # noqa: S104, the network is the containers' own
    )
