"""A system on the databases and the broker that an operator's commands use."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from testkit.mail.mailbox import Mailbox
from testkit.processes.stack import Stack
from testkit.servers.databases import Databases
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
    database_of = partial(databases.existing, suffix=env["DATABASE_SUFFIX"])
    with Stack.on(servers, database_of, vhost, mailbox, directory) as stack:
        yield stack
