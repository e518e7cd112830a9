"""The passwords of a run in containers, as files that a container mounts one by one."""

from pathlib import Path

from deploy.local import REPOSITORY, account, credentials
from deploy.local.broker import DEPLOYER, VHOST

#: Where docker-compose.yml looks for them.
DIRECTORY = REPOSITORY / "deploy/compose/secrets"

#: The broker's configuration: it has the deployer's password in it.
BROKER_CONFIGURATION = "rabbitmq.conf"

_BROKER_CONFIGURATION = """\
# The first start creates this user and virtual host instead of `guest`.
default_user = {user}
default_pass = {password}
default_vhost = {vhost}
default_user_tags.administrator = true

# Quorum queues keep up to this many bytes in memory before they write segments (default 512 MiB).
raft.wal_max_size_bytes = 67108864
"""


def names() -> list[str]:
    """Return the name of every file of a secret."""
    return [*credentials.names(), BROKER_CONFIGURATION]


def write(directory: Path) -> None:
    """Write every password that does not exist yet, and the broker's configuration.

    On this machine only the owner of the directory reaches them.
    """
    account.invoking().directory(directory)
    credentials.generate(directory)
    password = credentials.read(directory, credentials.DEPLOYER)
    text = _BROKER_CONFIGURATION.format(user=DEPLOYER, password=password, vhost=VHOST)
    account.invoking().file(directory / BROKER_CONFIGURATION, text)
    for name in names():
        # A container's user has another number than the owner, and it sees its own files only:
        # what keeps other users of this machine out is the directory.
        (directory / name).chmod(0o444)
