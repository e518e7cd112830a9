"""How a process connects to PostgreSQL."""

from pydantic import Field, SecretStr

from eventbus.settings.addresses import Hosts
from eventbus.settings.base import CaFile, Settings


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
