"""Settings for the PostgreSQL connection."""

from pydantic import Field, SecretStr

from eventbus.settings.addresses import Hosts
from eventbus.settings.base import CaFile, Settings


class DatabaseSettings(Settings):
    """The settings of a process with a database."""

    #: Or several, separated by commas: each connection finds the server that accepts writes.
    database_host: Hosts = "127.0.0.1"
    database_port: int = Field(5432, ge=1, le=65535)
    database_name: str
    database_user: str
    database_password: SecretStr
    #: The only trusted authority. Connections always use TLS, which protects passwords and
    #: customers' addresses.
    database_ca_file: CaFile
    #: Seconds. A handler takes milliseconds, so ten seconds mean that the database has a problem.
    #: At least a millisecond: PostgreSQL takes 0 as no limit.
    database_statement_timeout: float = Field(10.0, ge=0.01, le=3600)
    #: Seconds. Shorter than the statement timeout, so a wait for a lock is retried early.
    database_lock_timeout: float = Field(5.0, ge=0.01, le=3600)
