"""A system with a console, and with an inventory whose bug can be fixed."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from deploy.local.servers import credentials
from testkit.eventually import eventually
from testkit.mail.mailbox import Mailbox
from testkit.processes.operated import operated
from testkit.processes.stack import Stack
from testkit.servers.databases import Databases
from testkit.servers.infrastructure import Infrastructure
from testkit.servers.vhosts import fresh_vhost


@contextmanager
def shop(servers: Infrastructure, databases: Databases, directory: Path) -> Iterator[Stack]:
    """Yield a system, without processes, whose databases the console finds by their suffix."""
    suffix = f"_{uuid4().hex[:8]}"
    databases.create_all(suffix)
    try:
        with (
            fresh_vhost(servers) as vhost,
            Mailbox.running() as mailbox,
            operated(
                servers, databases, {"DATABASE_SUFFIX": suffix}, vhost, mailbox, directory
            ) as stack,
        ):
            # The limit of parked events is off, because beyond it the inventory would pause itself.
            stack.extra |= {
                "BUG": str(directory / "bug"),
                "DATABASE_SUFFIX": suffix,
                "PARKING_BURST_LIMIT": "0",
            }
            yield stack
    finally:
        databases.drop_all(suffix)


def console_url(stack: Stack) -> str:
    """Return the address of the console."""
    return f"http://127.0.0.1:{stack.ports.console_port}"


def password(stack: Stack) -> str:
    """Return the password of the console's user `operator`."""
    return credentials.read(stack.servers.secrets_dir, credentials.CONSOLE)


def bug(stack: Stack) -> Path:
    """Return the file whose existence causes the bug."""
    return Path(stack.extra["BUG"])


def place_parked(stack: Stack) -> str:
    """Place an order whose event the inventory parks, and return its id."""
    before = stack.vhost.depth("inventory.dlq")
    order_id = stack.place(("TEA", 1))

    def is_parked() -> None:
        assert stack.vhost.depth("inventory.dlq") > before

    eventually(is_parked)
    return order_id
