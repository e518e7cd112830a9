"""Settings for the PostgreSQL connection."""

from typing import Annotated

from pydantic import Field, SecretStr

from eventbus.settings.addresses import Hosts
from eventbus.settings.base import CaFile, Settings

#: A timeout in seconds. PostgreSQL counts whole milliseconds in a 32-bit integer, and 0 means no
#: limit.
_Timeout = Annotated[float, Field(ge=0.001, le=86_400, allow_inf_nan=False)]


class DatabaseSettings(Settings):
    """The settings of a process with a database."""

    #: The server, or several servers separated by commas. Each connection selects the server that
    #: accepts writes.
    database_host: Hosts = "127.0.0.1"
    database_port: int = Field(5432, ge=1, le=65535)
    database_name: str
    database_user: str
    database_password: SecretStr
    #: The certificate of the only trusted CA. Connections always use TLS, which protects passwords
    #: and customers' addresses.
    database_ca_file: CaFile
    #: The statement timeout in seconds. A handler takes milliseconds, so ten seconds mean that the
    #: database has a problem.
    database_statement_timeout: _Timeout = 10.0
    #: The lock timeout in seconds. It is shorter than the statement timeout, so that a wait for a
    #: lock is retried early.
    database_lock_timeout: _Timeout = 5.0
