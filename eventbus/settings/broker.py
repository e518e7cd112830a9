"""Settings for the RabbitMQ connection."""

from pathlib import Path
from typing import Annotated
from urllib.parse import quote

from pydantic import BeforeValidator, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import NoDecode

from eventbus.settings import client_certificate
from eventbus.settings.addresses import Hosts, addresses, in_url
from eventbus.settings.base import CaFile, Settings
from eventbus.settings.client_certificate import ClientCertificateFile
from eventbus.topology.retry_schedule import RETRY_TIERS


def _split(value: object) -> object:
    return value.split(",") if isinstance(value, str) else value


#: A list of seconds, separated by commas. The broker counts whole milliseconds, up to 49 days.
RetryTiers = Annotated[
    tuple[Annotated[float, Field(ge=0.001, le=30 * 86_400, allow_inf_nan=False)], ...],
    NoDecode,
    BeforeValidator(_split),
]


class BrokerSettings(Settings):
    """The settings of a process with a RabbitMQ connection."""

    #: The broker's host, or the nodes of one cluster, separated by commas, which are tried in turn.
    broker_host: Hosts = "127.0.0.1"
    broker_port: int = Field(5671, ge=1, le=65535)
    broker_vhost: str = "orders"
    broker_user: str
    #: The certificate with which the process logs in instead of a password; its common name is the
    #: user.
    broker_client_certificate_file: ClientCertificateFile | None = None
    broker_password: SecretStr | None = Field(None, validate_default=True)
    #: The certificate of the only trusted CA. Connections always use TLS.
    broker_ca_file: CaFile
    #: The name that the broker's certificate must contain; by default `broker_host`. All nodes of a
    #: cluster share one name.
    broker_server_hostname: str | None = Field(None, validate_default=True)
    #: Seconds between two heartbeats. A dead peer is detected within twice this time.
    broker_heartbeat: int = Field(30, ge=5, le=3_600)
    #: The path of the health file. A supervisor considers the process healthy while the file's
    #: mtime is recent.
    health_file: Path | None = None
    #: The port on which the process serves its metrics; if it is unset, metrics are not served.
    metrics_port: int | None = Field(None, ge=1, le=65535)
    #: The address on which metrics, Flower's page and the exporter listen. Metrics have no
    #: authentication: set another address only on a private network, such as that of containers.
    metrics_host: str = "127.0.0.1"
    #: The delays of the retry tiers, in seconds. They must equal those with which the topology was
    #: applied.
    retry_tiers: RetryTiers = RETRY_TIERS

    @field_validator("broker_server_hostname")
    @classmethod
    def _one_name_for_all_nodes(cls, name: str | None, info: ValidationInfo) -> str | None:
        hosts = {host for host, _ in addresses(info.data.get("broker_host", "unknown"), 1)}
        if name is None and len(hosts) > 1:
            raise ValueError("required with several hosts in BROKER_HOST: one name for all nodes")
        return name or hosts.pop()

    @field_validator("broker_client_certificate_file")
    @classmethod
    def _names_the_user(cls, file: Path | None, info: ValidationInfo) -> Path | None:
        # The broker would log the process in as another user, and then reject its messages.
        if file and (name := client_certificate.user(file)) != info.data.get("broker_user", name):
            raise ValueError(f"{file}: its common name {name!r} is not BROKER_USER")
        return file

    @field_validator("broker_password")
    @classmethod
    def _has_credentials(cls, password: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        # If the certificate is invalid, it is absent from the data and has its own error.
        if password is None and info.data.get("broker_client_certificate_file", "") is None:
            raise ValueError("required without BROKER_CLIENT_CERTIFICATE_FILE")
        return password


def broker_url(settings: BrokerSettings) -> str:
    """Return the AMQP URLs of the broker's nodes, separated by semicolons, with the login.

    If a node does not respond, kombu tries the next node.
    """
    user, vhost = (quote(text, safe="") for text in (settings.broker_user, settings.broker_vhost))
    login, method = user, ""
    if settings.broker_password is None or settings.broker_client_certificate_file:
        # The certificate is one of the TLS options: see `eventbus.tls`.
        method = "?login_method=EXTERNAL"
    else:
        login += ":" + quote(settings.broker_password.get_secret_value(), safe="")
    nodes = addresses(settings.broker_host, settings.broker_port)
    return ";".join(
        f"amqps://{login}@{in_url(host)}:{port}/{vhost}{method}" for host, port in nodes
    )
