"""The plain build's processes: a relay for each outbox, and a Celery worker for each service."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.plain import topology
from bench.system.servers import Stored, process, until
from testkit.servers.vhosts import Vhost

#: The service, and its database, of each worker's module.
_WORKERS = {"inventory": "inventory", "orders": "order", "notification": "notification"}
_RELAYS = ("order", "inventory")


def worker(module: str) -> list[str]:
    """Return the command of a worker, without Celery's gossip, mingling and heartbeats."""
    command = ["python", "-m", "eventbus", "-A", f"bench.plain.{module}", "worker"]
    command += ["-n", f"{module}@plain"]
    return [*command, "--without-gossip", "--without-mingle", "--without-heartbeat"]


def environment(stored: Stored, vhost: Vhost, service: str) -> dict[str, str]:
    """Return the environment of a service's process: its broker and its database."""
    database = stored.databases[service].settings
    return {
        "PLAIN_BROKER_URL": vhost.amqp_url,
        "PLAIN_CA_FILE": str(vhost.ca_file),
        **{
            f"PLAIN_{name.upper()}": str(database[name])
            for name in ("database_user", "database_password", "database_port", "database_name")
        },
    }


@contextmanager
def consumers(stored: Stored, vhost: Vhost, logs: Path) -> Iterator[Mapping[str, int]]:
    """Run the workers and relays during the block, and yield their pids by name.

    All workers are consuming when the block starts.
    """
    with vhost.connect() as connection:
        topology.declare(connection)
    commands = {
        f"{module}-worker": (worker(module), service) for module, service in _WORKERS.items()
    }
    relay = ["python", "-m", "bench.plain.relay"]
    commands |= {f"{service}-relay": (relay, service) for service in _RELAYS}
    with ExitStack() as running:
        pids = {
            name: running.enter_context(
                process(command, logs / f"{name}.log", **environment(stored, vhost, service))
            )
            for name, (command, service) in commands.items()
        }
        with vhost.connect() as connection:
            channel = connection.default_channel

            def consumed() -> bool:
                counts = [channel.queue_declare(q, passive=True) for q in topology.BINDINGS]
                return all(count.consumer_count for count in counts)

            until(consumed, "the plain workers consume", within=60)
        yield pids
