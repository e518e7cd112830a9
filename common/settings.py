"""Settings: parsed once from the environment, validated at start, the only reader of it.

A secret `NAME` may come from a file instead, named by `NAME_FILE`, so that it appears
neither in a process list nor in a supervisor's configuration.
"""

import os
import ssl
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import quote

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    HttpUrl,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from common import client_certificate
from common.addresses import Hosts, addresses, in_url
from common.client_certificate import ClientCertificateFile
from common.kombu_topology import RETRY_TIERS

S = TypeVar("S", bound=BaseSettings)


def _split(value: object) -> object:
    return value.split(",") if isinstance(value, str) else value


def _certificates(path: Path) -> Path:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except OSError as error:
        reason = error.strerror or "it holds no certificate"
        raise ValueError(f"{path}: {reason}") from None
    return path


#: A file with the certificate of the authority that the server's own is signed by.
CaFile = Annotated[Path, AfterValidator(_certificates)]

#: Seconds, separated by commas.
RetryTiers = Annotated[
    tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...],
    NoDecode,
    BeforeValidator(_split),
]


class SettingsError(SystemExit):
    """A setting is missing or wrong; ends the process with a line for each and no trace."""


class _SecretFiles(PydanticBaseSettingsSource):
    """Reads the setting `NAME` from the file that the variable `NAME_FILE` names."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return the file's text without its last newline, or None when no file is named."""
        del field  # only its name matters here
        path = os.environ.get(f"{field_name.upper()}_FILE")
        value = Path(path).read_text().rstrip("\n") if path else None
        return value, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return every setting that a file provides."""
        values = {
            name: self.get_field_value(field, name)[0]
            for name, field in self.settings_cls.model_fields.items()
        }
        return {name: value for name, value in values.items() if value is not None}


class Settings(BaseSettings):
    """What every process reads."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
    release: str = Field("dev", description="Names the running code in parked messages and logs.")
    #: Where spans go (OTLP over HTTP, without `/v1/traces`); without it none are recorded.
    otlp_endpoint: HttpUrl | None = None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Prefer arguments (tests), then the environment, then secret files, then a dotenv file."""
        del file_secret_settings  # one directory for all secrets; here each has its own file
        return (
            init_settings,
            env_settings,
            _SecretFiles(settings_cls),
            dotenv_settings,
        )


class DatabaseSettings(Settings):
    """What a process with a database reads."""

    #: Or several, with commas: the one that takes writes is found at each connect.
    database_host: Hosts = "127.0.0.1"
    database_port: int = Field(5432, ge=1, le=65535)
    database_name: str
    database_user: str
    database_password: SecretStr
    #: Nothing else is trusted, and there is no way without TLS: a password or a customer's address
    #: would be read on the way.
    database_ca_file: CaFile
    #: Seconds. A handler takes milliseconds; ten means that the database is in trouble.
    database_statement_timeout: float = Field(10.0, gt=0)
    #: Seconds. Shorter than the statement's, so that waiting for a lock is retried early.
    database_lock_timeout: float = Field(5.0, gt=0)


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


class ServiceSettings(BrokerSettings, DatabaseSettings):
    """What a service's worker or relay reads."""

    #: A worker tells of its tasks (see `common.task_events`). Only a worker reads it.
    task_events: bool = True


def broker_url(settings: BrokerSettings) -> str:
    """Return the AMQP addresses of the process's broker, and how its user logs in at each.

    Of several, with semicolons between, kombu tries the next when one does not answer.
    """
    user, vhost = (quote(text, safe="") for text in (settings.broker_user, settings.broker_vhost))
    login, method = user, ""
    if settings.broker_password is None or settings.broker_client_certificate_file:
        # The certificate is among the TLS options, see `common.tls`.
        method = "?login_method=EXTERNAL"
    else:
        login += ":" + quote(settings.broker_password.get_secret_value(), safe="")
    nodes = addresses(settings.broker_host, settings.broker_port)
    return ";".join(
        f"amqps://{login}@{in_url(host)}:{port}/{vhost}{method}" for host, port in nodes
    )


def load(settings: type[S], **overrides: Any) -> S:
    """Return the validated settings of a process.

    Raises `SettingsError`, which ends the process, naming every variable that is wrong.
    """
    try:
        return settings(**overrides)
    except ValidationError as error:
        raise SettingsError("\n".join(_lines(error))) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"a secret's file cannot be read: {error}") from None


def _lines(error: ValidationError) -> list[str]:
    # Never the value itself: it may be a secret.
    return [
        f"setting {str(problem['loc'][0]).upper()}: {problem['msg']}"
        for problem in error.errors(include_input=False, include_url=False)
    ]
