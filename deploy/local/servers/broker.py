"""A private RabbitMQ node and its port mapper."""

import secrets
from hashlib import sha256
from pathlib import Path

from deploy.local import REPOSITORY
from deploy.local.ports import Ports
from deploy.local.processes.health import answers, runs
from deploy.local.processes.process import Process
from deploy.local.servers import certificates, credentials
from deploy.local.servers.account import Account, unprivileged
from deploy.local.state import StateDirectory
from deploy.local.templates import render
from eventbus.messaging.untrusted import BODY_LIMIT

#: Debian's wrapper in /usr/sbin requires the user rabbitmq and /var/lib.
SERVER = "/usr/lib/rabbitmq/bin/rabbitmq-server"
PLUGINS = REPOSITORY / "deploy/rabbitmq/enabled_plugins"
VHOST = "orders"
DEPLOYER = "deployer"

#: The file that every node reads in addition to its configuration.
ADVANCED = REPOSITORY / "deploy/rabbitmq/advanced.config"
ADVANCED_OF_3_10 = REPOSITORY / "deploy/rabbitmq/advanced-3.10.config"

#: The arguments have these effects, in this order: schedulers do not spin before they sleep,
#: because that wastes power on an idle laptop. The distribution port, which has no TLS, is not
#: reachable from the network. A renewed certificate is read at the next connection, rather than
#: after a command or two minutes. A process accumulates 2 MB of finished messages before it
#: collects them, which saves a tenth of the broker's CPU time for each event.
ERLANG_ARGUMENTS = (
    "+sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}"
    " -ssl bypass_pem_cache true +hmbs 250000"
)


def prepare(state: StateDirectory, ports: Ports) -> None:
    """Write the node's configuration; data of an earlier run is kept.

    The secrets and the certificates must exist.
    """
    user = unprivileged("rabbitmq")
    home = user.directory(_home(state))
    user.file(home / "rabbitmq.conf", _configuration(state, ports))
    user.file(home / "advanced.config", _advanced())
    user.file(home / "enabled_plugins", PLUGINS.read_text())
    cookie = home / ".erlang.cookie"
    if not cookie.exists():
        user.file(cookie, secrets.token_hex(24), mode=0o400)


def configuration(
    ports: Ports, password: str, *, ca_file: Path, server_file: Path, address: str = "127.0.0.1"
) -> str:
    """Return the node's configuration: its listeners, with TLS only, and its first user."""
    return render(
        "rabbitmq.conf.j2",
        ports=ports,
        user=DEPLOYER,
        password=password,
        vhost=VHOST,
        address=address,
        ca_file=ca_file,
        server_file=server_file,
        body_limit=BODY_LIMIT,
    )


def processes(state: StateDirectory, ports: Ports) -> tuple[Process, ...]:
    """Return the port mapper and the node, in start order. The secrets must exist."""
    user = unprivileged("rabbitmq")
    return (_epmd(user, _home(state), ports), _rabbitmq(user, state, ports))


def management_url(ports: Ports) -> str:
    """Return the address of the management page and its HTTP API."""
    return f"https://127.0.0.1:{ports.management_port}"


def _epmd(user: Account, home: Path, ports: Ports) -> Process:
    # Otherwise, Erlang starts the port mapper automatically, and the mapper outlives the node.
    return Process(
        name="epmd",
        command=("/usr/bin/epmd", "-address", "127.0.0.1", "-port", str(ports.epmd_port)),
        environment={"HOME": str(home)},
        check=runs,
        ports={"EPMD_PORT": ports.epmd_port},
        directory=home,
        account=user,
    )


def _rabbitmq(user: Account, state: StateDirectory, ports: Ports) -> Process:
    home = _home(state)
    listening = f"{management_url(ports)}/api/health/checks/port-listener/{ports.amqp_port}"
    password = credentials.read(state.secrets, credentials.DEPLOYER)
    configured = _configuration(state, ports) + _advanced() + PLUGINS.read_text()
    digest = sha256(configured.encode()).hexdigest()
    return Process(
        name="rabbitmq",
        command=(SERVER,),
        environment={
            "HOME": str(home),
            "RABBITMQ_NODENAME": "orders@localhost",
            "RABBITMQ_DIST_PORT": str(ports.rabbitmq_dist_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(ports.epmd_port),
            "RABBITMQ_MNESIA_BASE": str(home / "data"),
            "RABBITMQ_LOG_BASE": str(home / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_PID_FILE": str(home / "pid"),
            "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(home / "config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
            # Otherwise the machine's /etc/rabbitmq/rabbitmq-env.conf would affect this node.
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(home / "advanced.config"),
            # Bound schedulers of two nodes, this one and the tests', would share one core.
            "RABBITMQ_SCHEDULER_BIND_TYPE": "u",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": ERLANG_ARGUMENTS,
            # The script is replaced by the node, rather than waiting for it, so that signals reach
            # the node and a killed script does not leave it running.
            "RUNNING_UNDER_SYSTEMD": "true",
            # A changed configuration is a changed process: the supervisor restarts it.
            "CONFIGURATION": digest,
        },
        check=answers(listening, DEPLOYER, password, ca_file=certificates.ca_file(state)),
        ports={
            "AMQP_PORT": ports.amqp_port,
            "MANAGEMENT_PORT": ports.management_port,
            "RABBITMQ_METRICS_PORT": ports.rabbitmq_metrics_port,
            "RABBITMQ_DIST_PORT": ports.rabbitmq_dist_port,
        },
        directory=home,
        account=user,
        url=management_url(ports),
        stop_seconds=60,
    )


def _advanced() -> str:
    # In version 3.10 the same text means the opposite: a listener without TLS, on every address.
    (server,) = Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*")
    version = server.name.partition("-")[2].split(".")
    is_old = [int(number) for number in version[:2]] < [3, 11]
    return (ADVANCED_OF_3_10 if is_old else ADVANCED).read_text()


def _home(state: StateDirectory) -> Path:
    return state.path / "rabbitmq"


def _configuration(state: StateDirectory, ports: Ports) -> str:
    return configuration(
        ports,
        credentials.read(state.secrets, credentials.DEPLOYER),
        ca_file=certificates.ca_file(state),
        server_file=certificates.server_file(state, "rabbitmq"),
    )
