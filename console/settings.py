"""Where the broker and the databases are, and with which rights an operator reaches them.

Each command loads only the settings that it needs, so that it needs no other rights.
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

from console.errors import ActionError
from eventbus.database import db
from eventbus.settings.addresses import Hosts
from eventbus.settings.base import CaFile, Settings, SettingsError, load
from eventbus.settings.broker import RetryTiers
from eventbus.settings.dedup_window import DedupWindow
from eventbus.topology.limits import RETRY_TIERS

#: What `make up` writes.
_DEFAULT_ENV_FILE = Path(".run/operator.env")

#: The console's database role, and its broker user.
READER = "console"

S = TypeVar("S", bound=Settings)

#: A host name or an address, as a certificate may name it.
ServerName = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9*:]([A-Za-z0-9.:-]*[A-Za-z0-9:])?$")
]


def _split(value: object) -> object:
    return [part.strip() for part in value.split(",") if part] if isinstance(value, str) else value


#: One address of the management API, or several.
AdminUrls = Annotated[
    tuple[Annotated[HttpUrl, UrlConstraints(allowed_schemes=["https"])], ...],
    NoDecode,
    BeforeValidator(_split),
    Field(min_length=1),
]


class EnvFileSettings(Settings):
    """Which dotenv file holds the operator's settings."""

    orders_env_file: Path | None = None


class PasswordFiles(Settings):
    """Passwords may come from files that the dotenv file names."""

    @model_validator(mode="before")
    @classmethod
    def _read_password_files(cls, values: dict[str, Any]) -> dict[str, Any]:
        # The variable `NAME_FILE` may stand in the dotenv file as well as in the environment.
        files = {name: values.get(f"{name}_file") for name in cls.model_fields}
        secrets = {
            name: Path(file).read_text(errors="replace").rstrip("\n")
            for name, file in files.items()
            if file and not values.get(name)
        }
        return values | secrets


class SecretsSettings(PasswordFiles):
    """Where the services' passwords are."""

    #: Directory of the files `<user>.broker` and `<service>.database`; each holds one password.
    secrets_dir: Path

    def broker_password(self, user: str) -> str | None:
        """Return the password of a broker user, or None when there is no file for it."""
        return self._secret(f"{user}.broker")

    def database_password(self, service: str) -> str:
        """Return the password of a service's database role; raises `ActionError` without one."""
        password = self._secret(f"{service}.database")
        if password is None:
            raise ActionError(f"no password file {self.secrets_dir / service}.database")
        return password

    def _secret(self, name: str) -> str | None:
        path = self.secrets_dir / name
        try:
            password = path.read_text().rstrip("\n")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise ActionError(f"the password file {path} cannot be read: {error}") from None
        if not (password and password.isascii() and password.isprintable()):
            raise ActionError(f"the password file {path} must hold one line of ASCII")
        return password


class DatabaseServer(PasswordFiles):
    """Where the services' databases are."""

    database_host: Hosts = "127.0.0.1"
    database_port: int = Field(5432, ge=1, le=65535)
    database_ca_file: CaFile
    #: Ends the name of every database, so that several installations may share a server's roles.
    database_suffix: str = Field("", pattern="^[a-z0-9_]{0,30}$")

    def database_name(self, service: str) -> str:
        """Return the name of a service's database."""
        return role_name(service) + self.database_suffix

    def login(self, service: str) -> tuple[str, SecretStr]:
        """Return role and password for a service's database."""
        raise NotImplementedError

    def _url(self, user: str, password: str, *, database: str) -> URL:
        server = db.server_url(self.database_host, self.database_port, self.database_ca_file)
        return server.set(username=user, password=password, database=database)


class DatabaseSettings(DatabaseServer, SecretsSettings):
    """The same, with each service's own rights there."""

    def login(self, service: str) -> tuple[str, SecretStr]:
        """Return the service's own role and its password."""
        return role_name(service), SecretStr(self.database_password(service))

    def service_url(self, service: str) -> URL:
        """Return the address of a service's database, with the service's own credentials."""
        role, password = self.login(service)
        return self._url(role, password.get_secret_value(), database=self.database_name(service))


class DatabaseAdminSettings(DatabaseSettings):
    """Who creates roles and databases."""

    database_admin_user: str = "postgres"
    database_admin_password: SecretStr
    database_admin_password_file: Path | None = None

    def admin_url_of(self, database: str) -> URL:
        """Return the address of a database, for its administrator."""
        password = self.database_admin_password.get_secret_value()
        return self._url(self.database_admin_user, password, database=database)


class BrokerAdminSettings(PasswordFiles):
    """Where the broker's management API is, and who asks it."""

    #: Such as `https://127.0.0.1:15671`; AMQP is on the same host. Or several, with commas between:
    #: nodes of one cluster, tried in turn.
    broker_admin_url: AdminUrls
    #: The authority of both.
    broker_ca_file: CaFile
    #: Must be a name in the broker's certificate; that host of `broker_admin_url` unless set.
    broker_server_hostname: str | None = None
    broker_port: int = Field(5671, ge=1, le=65535)
    broker_vhost: str = Field("orders", min_length=1)
    #: Needs the tag `administrator`; the console's has `monitoring`.
    broker_admin_user: str
    broker_admin_password: SecretStr
    broker_admin_password_file: Path | None = None
    #: Nodes of the cluster: nothing is declared before all run, and each queue has a replica on
    #: three of them.
    broker_nodes: int = Field(1, ge=1, le=100)
    #: Seconds, ascending; the same for every service.
    retry_tiers: RetryTiers = RETRY_TIERS


class RetirementSettings(BrokerAdminSettings, DatabaseSettings):
    """What looking for the users of an event type needs: the broker, and every service's tables."""


class TopologySettings(BrokerAdminSettings, SecretsSettings):
    """What comparing and applying the topology needs besides: the users' passwords."""


class RedriveSettings(DedupWindow, BrokerAdminSettings):
    """What redriving needs besides: an event that a service may not know again stays parked."""

    @property
    def redrive_limit(self) -> timedelta:
        """How old an event may be that is redriven."""
        return timedelta(days=self.parked_redrive_days)


class ReplaySettings(BrokerAdminSettings, DatabaseAdminSettings):
    """What rebuilding the analytics needs: the stream, and the right to make tables."""


class TlsSettings(Settings):
    """Where the private certificate authority is, and for which names it signs."""

    tls_dir: Path
    #: Host names and addresses, separated by commas, besides localhost and 127.0.0.1.
    tls_names: Annotated[tuple[ServerName, ...], NoDecode, BeforeValidator(_split)] = ()


class OperatorSettings(RedriveSettings, TopologySettings, DatabaseAdminSettings, TlsSettings):
    """All of it."""


class ConsoleSettings(RedriveSettings, DatabaseServer):
    """What the operators' web page reads: rights of its own, which are fewer than an operator's."""

    #: Who may look, by HTTP basic authentication.
    console_user: str = Field("operator", pattern="^[A-Za-z0-9._@-]+$")
    console_password: SecretStr = Field(min_length=16)
    #: Of the database role `console`, which can read a few tables.
    console_database_password: SecretStr
    #: Prometheus's HTTP API; without it the page shows no rates, times and alerts.
    prometheus_url: HttpUrl | None = None

    def login(self, _service: str) -> tuple[str, SecretStr]:
        """Return the console's own role, which is the same everywhere."""
        return READER, self.console_database_password


def role_name(service: str) -> str:
    """Return the name of the database role that a service's processes log in with."""
    return f"{service}_service"


def owner_name(service: str) -> str:
    """Return the name of the role that owns a service's tables; only migrations use it."""
    return f"{service}_owner"


def load_operator(settings: type[S]) -> S:
    """Return settings from the environment, and from the dotenv file for what is not in it.

    `ORDERS_ENV_FILE` names that file. Raises `SettingsError`, naming every variable that is wrong.
    """
    file = load(EnvFileSettings).orders_env_file
    if file is not None and not file.is_file():
        raise SettingsError(f"setting ORDERS_ENV_FILE: there is no file {file}")
    return load(settings, _env_file=file or _DEFAULT_ENV_FILE, _env_file_encoding="utf-8")
