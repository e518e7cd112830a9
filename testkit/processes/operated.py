"""A system on the databases and the broker that an operator's commands use."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL

from testkit.mail.mailbox import Mailbox
from testkit.processes.stack import Stack
from testkit.servers.databases import Databases, TestDatabase
from testkit.servers.infrastructure import Infrastructure
from testkit.servers.vhosts import Vhost


@contextmanager
def operated(
    servers: Infrastructure,
    databases: Databases,
    env: Mapping[str, str],
    vhost: Vhost,
    mailbox: Mailbox,
    directory: Path,
) -> Iterator[Stack]:
    """Yield a system with the migrated databases of `env`, the environment of `orderctl`."""

    def database_of(service: str) -> TestDatabase:
        settings = databases.settings
        role, password = settings.login(service)
        url: URL = databases.server.set(database=f"{service}_service{env['DATABASE_SUFFIX']}")
        runtime = url.set(username=role, password=password.get_secret_value())
        return TestDatabase(url, settings.database_ca_file, runtime)

    with Stack.on(servers, database_of, vhost, mailbox, directory) as stack:
        yield stack
