"""Addresses of the broker and the databases, and the operators' credentials for them.

Each command loads only the settings that it uses, so it needs no other permissions.
"""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import (
    BeforeValidator,
    Field,
    HttpUrl,
    SecretStr,
    StringConstraints,
    UrlConstraints,
    model_validator,
)
from pydantic_settings import NoDecode
from sqlalchemy import URL

from common.queue_parts import Parts
from console.errors import ActionError
from eventbus.database import db
from eventbus.settings.addresses import Hosts
from eventbus.settings.base import CaFile, Settings, SettingsError, load, secret_in
from eventbus.settings.broker import RetryTiers
from eventbus.settings.dedup_window import DedupWindow
from eventbus.topology.retry_schedule import RETRY_TIERS

#: The operators' dotenv file, which `make up` writes.
_DEFAULT_ENV_FILE = Path(".run/operator.env")

#: The console's broker user, its role in the services' databases, and the name of its own database.
READER = "console"

S = TypeVar("S", bound=Settings)

#: The pattern of a host name or an address that a certificate may contain.
ServerName = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9*:]([A-Za-z0-9.:-]*[A-Za-z0-9:])?$")
]


def _split(value: object) -> object:
    return [part.strip() for part in value.split(",") if part] if isinstance(value, str) else value


#: One or more addresses of the management API.
AdminUrls = Annotated[
    tuple[Annotated[HttpUrl, UrlConstraints(allowed_schemes=["https"])], ...],
    NoDecode,
    BeforeValidator(_split),
    Field(min_length=1),
]


class EnvFileSettings(Settings):
    """The setting that names the operator's dotenv file."""

    orders_env_file: Path | None = None


class PasswordFiles(Settings):
    """Settings whose passwords may be read from files that the dotenv file names."""

    @model_validator(mode="before")
    @classmethod
    def _read_password_files(cls, values: dict[str, Any]) -> dict[str, Any]:
        # `NAME_FILE` may be set in the dotenv file as well as in the environment.
        files = {name: values.get(f"{name}_file") for name in cls.model_fields}
        secrets = {
            name: secret_in(Path(file), name)
            for name, file in files.items()
            if file and not values.get(name)
        }
        return values | secrets


class SecretsSettings(PasswordFiles):
    """The directory of the services' passwords."""

    #: The directory of the files `<user>.broker` and `<service>.database`, each with a password.
    secrets_dir: Path

    def broker_password(self, user: str) -> str | None:
        """Return the password of a broker user, or None if its file does not exist."""
        return self._secret(f"{user}.broker")

    def database_password(self, service: str) -> str:
        """Return the password of a service's database role.

        Raises `ActionError` if its file does not exist.
        """
        password = self._secret(f"{service}.database")
        if password is None:
            raise ActionError(f"password file {self.secrets_dir / service}.database does not exist")
        return password

    def _secret(self, name: str) -> str | None:
        path = self.secrets_dir / name
        try:
            password = path.read_text().rstrip("\n")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise ActionError(f"password file {path} cannot be read: {error}") from None
        if not (password and password.isascii() and password.isprintable()):
            raise ActionError(f"password file {path} must contain one line of ASCII")
        return password


class DatabaseServer(PasswordFiles):
    """The server of the services' databases."""

    database_host: Hosts = "127.0.0.1"
    database_port: int = Field(5432, ge=1, le=65535)
    database_ca_file: CaFile
    #: The suffix of every database name, so that several installations can share a server's roles.
    database_suffix: str = Field("", pattern="^[a-z0-9_]{0,30}$")

    def database_name(self, service: str) -> str:
        """Return the name of a service's database."""
        return role_name(service) + self.database_suffix

    def login(self, service: str) -> tuple[str, SecretStr]:
        """Return the role and the password for a service's database."""
        raise NotImplementedError


class DatabaseSettings(DatabaseServer, SecretsSettings):
    """The database server, accessed with each service's own role."""

    def login(self, service: str) -> tuple[str, SecretStr]:
        """Return the service's own role and its password."""
        return role_name(service), SecretStr(self.database_password(service))


class DatabaseAdminSettings(DatabaseSettings):
    """The database server, accessed as the administrator that creates roles and databases."""

    database_admin_user: str = "postgres"
    database_admin_password: SecretStr
    database_admin_password_file: Path | None = None

    def admin_url_of(self, database: str) -> URL:
        """Return the address of a database, with the administrator's credentials."""
        server = db.server_url(self.database_host, self.database_port, self.database_ca_file)
        password = self.database_admin_password.get_secret_value()
        return server.set(username=self.database_admin_user, password=password, database=database)


class BrokerAdminSettings(PasswordFiles):
    """The broker's management API, and the user that accesses it."""

    #: The URL of the management API, such as `https://127.0.0.1:15671`, or several URLs separated
    #: by commas, which are the nodes of one cluster. AMQP is on the same hosts.
    broker_admin_url: AdminUrls
    #: The certificate of the CA that issued the certificates of the management API and of AMQP.
    broker_ca_file: CaFile
    #: A name in the broker's certificate. The default is the host in `broker_admin_url`.
    broker_server_hostname: str | None = None
    broker_port: int = Field(5671, ge=1, le=65535)
    broker_vhost: str = Field("orders", min_length=1)
    #: The broker user. Its tag must be `administrator`, or `monitoring` for the console.
    broker_admin_user: str
    broker_admin_password: SecretStr
    broker_admin_password_file: Path | None = None
    #: Number of nodes of the cluster. Objects are declared only when all nodes run, and each queue
    #: has a replica on three of them.
    broker_nodes: int = Field(1, ge=1, le=100)
    #: The delays of the retry tiers in seconds, ascending, which are the same for every service.
    retry_tiers: RetryTiers = RETRY_TIERS
    #: Numbers of parts of divided queues, such as `inventory=4,order=2`. The default is none,
    #: because one worker of each service consumes several thousand events per second.
    parts: Parts = Field("", validate_default=True)


class RetirementSettings(BrokerAdminSettings, DatabaseSettings):
    """Settings for finding the uses of an event type: the broker, and every service's tables."""


class TopologySettings(BrokerAdminSettings, SecretsSettings):
    """Settings for comparing and applying the topology: the broker, and its users' passwords."""


class ScaleSettings(TopologySettings, DatabaseSettings):
    """Settings for changing the number of parts of a queue: the broker, and the outboxes."""


class RedriveSettings(DedupWindow, BrokerAdminSettings):
    """Settings for redrives: the broker, and the age beyond which an event stays parked.

    A service may have deleted the record that it has handled an older event.
    """

    @property
    def redrive_limit(self) -> timedelta:
        """The maximum age of an event that can be redriven."""
        return timedelta(days=self.parked_redrive_days)


class LedgerSettings(RedriveSettings, DatabaseSettings):
    """Settings for accounting for every event: the broker, and every service's tables."""

    #: Days for which the mailer keeps emails. Older orders cannot be compared with emails.
    notification_retention_days: int = Field(90, ge=1, le=3650)


class RestoreSettings(LedgerSettings, TopologySettings):
    """Settings for restoring a service or the broker, including the broker users' passwords."""


class DiscardSettings(BrokerAdminSettings, DatabaseServer):
    """Settings for discarding and restoring messages: the broker, and the console's database."""

    #: Days for which discarded messages are kept. An incorrect discard is detected within a month,
    #: when a customer asks about the order. Customers' data should not be kept for longer.
    discarded_retention_days: int = Field(30, ge=1, le=3650)


class ParkingSettings(RedriveSettings, DiscardSettings):
    """Settings for every action on parked messages: the broker and the databases."""


class RepairSettings(ParkingSettings, DatabaseSettings):
    """Settings for repairing parked messages, with each service's own role in its database."""


class ReplaySettings(BrokerAdminSettings, DatabaseAdminSettings):
    """Settings for rebuilding analytics: the stream, and permission to create tables."""


class AuditSettings(DatabaseAdminSettings):
    """Settings for deleting old lines of the audit log: permission to assume its owner's role."""

    #: Days for which lines are kept. A yearly review covers a complete year, a month after its end.
    audit_retention_days: int = Field(400, ge=30, le=3650)


class TlsSettings(Settings):
    """The directory of the private certificate authority, and the names in its certificates."""

    tls_dir: Path
    #: Host names and addresses, separated by commas, in addition to localhost and 127.0.0.1.
    tls_names: Annotated[tuple[ServerName, ...], NoDecode, BeforeValidator(_split)] = ()


class ConsoleSettings(ParkingSettings):
    """Settings of the web console, whose permissions are fewer than an operator's."""

    #: The user name of the emergency login, which works without the console's database.
    console_user: str = Field("operator", pattern="^[A-Za-z0-9._@-]+$")
    console_password: SecretStr = Field(min_length=16)
    #: Seconds without a request after which a browser's login ends. The default is a working day.
    console_login_idle: int = Field(28_800, ge=60, le=2_592_000)
    #: Seconds after which a login in a browser ends in any case. The default is a week: a stolen
    #: cookie expires, and people enter their password once a week.
    console_login_lifetime: int = Field(604_800, ge=60, le=2_592_000)
    #: Number of proxies in front of the console whose `X-Forwarded-For` and `X-Forwarded-Proto` are
    #: trusted. The default is 0, because a client can send any value.
    console_trusted_proxies: int = Field(0, ge=0, le=10)
    #: The password of the database role `console`, which can read a few tables.
    console_database_password: SecretStr
    #: The address of the order API, and a key with `orders:operate`, because the console's database
    #: role cannot change orders.
    order_api_url: HttpUrl | None = None
    order_api_key: SecretStr | None = None
    #: The address of Prometheus's HTTP API. If it is unset, the console shows no rates, durations
    #: or alerts.
    prometheus_url: HttpUrl | None = None

    def login(self, service: str) -> tuple[str, SecretStr]:
        """Return the role that reads a service's database or, in the console's own, its role.

        Both have the same password.
        """
        role = role_name(service) if service == READER else READER
        return role, self.console_database_password


def role_name(service: str) -> str:
    """Return the name of the database role with which a service's processes log in."""
    return f"{service}_service"


def owner_name(service: str) -> str:
    """Return the name of the role that owns a service's tables; its processes never use it."""
    return f"{service}_owner"


def load_operator(settings: type[S]) -> S:
    """Return settings from the environment, and from the dotenv file where it has none.

    `ORDERS_ENV_FILE` names that file. Raises `SettingsError`, which names every invalid variable.
    """
    file = load(EnvFileSettings).orders_env_file
    if file is not None and not file.is_file():
        raise SettingsError(f"setting ORDERS_ENV_FILE: file {file} does not exist")
    return load(settings, _env_file=file or _DEFAULT_ENV_FILE, _env_file_encoding="utf-8")
