"""How a process connects to RabbitMQ."""

from pathlib import Path
from typing import Annotated
from urllib.parse import quote

from pydantic import BeforeValidator, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import NoDecode

from eventbus.settings import client_certificate
from eventbus.settings.addresses import Hosts, addresses, in_url
from eventbus.settings.base import CaFile, Settings
from eventbus.settings.client_certificate import ClientCertificateFile
from eventbus.topology.limits import RETRY_TIERS


def _split(value: object) -> object:
    return value.split(",") if isinstance(value, str) else value


#: Seconds, separated by commas.
RetryTiers = Annotated[
    tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...],
    NoDecode,
    BeforeValidator(_split),
]


class BrokerSettings(Settings):
    """What a process with a RabbitMQ connection reads."""

    #: Or several, with commas: nodes of one cluster, tried in turn.
    broker_host: Hosts = "127.0.0.1"
    broker_port: int = Field(5671, ge=1, le=65535)
    broker_vhost: str = "orders"
    broker_user: str
    #: The process logs in by this certificate, whose common name is its user, and by no password.
    broker_client_certificate_file: ClientCertificateFile | None = None
    broker_password: SecretStr | None = Field(None, validate_default=True)
    #: Nothing else is trusted, and there is no way without TLS.
    broker_ca_file: CaFile
    #: Must be a name in the broker's certificate; `broker_host` unless set. One name for all the
    #: nodes of a cluster.
    broker_server_hostname: str | None = Field(None, validate_default=True)
    #: Seconds between two heartbeats: a dead peer is noticed within two of them.
    broker_heartbeat: int = Field(30, ge=5)
    #: A supervisor calls the process healthy while this file's mtime is fresh.
    health_file: Path | None = None
    #: The process shows its metrics on this port; nowhere when unset.
    metrics_port: int | None = Field(None, ge=1, le=65535)
    #: Where it listens for them, and an onlooker for all. They ask nobody who they are: another
    #: address only where a private network ends at it, as that of a container.
    metrics_host: str = "127.0.0.1"
    #: Seconds; must be what the topology was applied with, see `common.kombu_topology.RETRY_TIERS`.
    retry_tiers: RetryTiers = RETRY_TIERS

    @field_validator("broker_server_hostname")
    @classmethod
    def _of_all_nodes(cls, name: str | None, info: ValidationInfo) -> str | None:
        hosts = {host for host, _ in addresses(info.data.get("broker_host", "unknown"), 1)}
        if name is None and len(hosts) > 1:
            raise ValueError(
                "required with several hosts in BROKER_HOST: a name in all certificates"
            )
        return name or hosts.pop()

    @field_validator("broker_client_certificate_file")
    @classmethod
    def _of_the_user(cls, file: Path | None, info: ValidationInfo) -> Path | None:
        # The broker would let it in as somebody else, and then refuse what it publishes.
        if file and (found := client_certificate.user(file)) != info.data.get("broker_user", found):
            raise ValueError(f"{file}: its common name {found!r} is not BROKER_USER")
        return file

    @field_validator("broker_password")
    @classmethod
    def _some_login(cls, password: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        # A certificate that is wrong, and so not in the data, is a line of its own.
        if password is None and info.data.get("broker_client_certificate_file", "") is None:
            raise ValueError("required without BROKER_CLIENT_CERTIFICATE_FILE")
        return password


def broker_url(settings: BrokerSettings) -> str:
    """Return the AMQP addresses of the process's broker, and how its user logs in at each.

    Of several, with semicolons between, kombu tries the next when one does not answer.
    """
    user, vhost = (quote(text, safe="") for text in (settings.broker_user, settings.broker_vhost))
    login, method = user, ""
    if settings.broker_password is None or settings.broker_client_certificate_file:
        # The certificate is among the TLS options, see `eventbus.tls`.
        method = "?login_method=EXTERNAL"
    else:
        login += ":" + quote(settings.broker_password.get_secret_value(), safe="")
    nodes = addresses(settings.broker_host, settings.broker_port)
    return ";".join(
        f"amqps://{login}@{in_url(host)}:{port}/{vhost}{method}" for host, port in nodes
    )
