"""A RabbitMQ cluster of three nodes on this machine, the first of which can be restarted."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from deploy.local.servers import broker
from deploy.local.state import StateDirectory
from eventbus import tls
from testkit.eventually import eventually
from testkit.servers.infrastructure import (
    ERLANG,
    FEW_SCHEDULERS,
    Infrastructure,
    infrastructure,
)
from testkit.servers.workers import own_ports

#: The name of the first node, as in a local run.
FIRST = "orders@localhost"

#: The settings with which a new node joins the first node.
_JOIN = f"""
cluster_formation.peer_discovery_backend = classic_config
cluster_formation.classic_config.nodes.1 = {FIRST}
"""


@dataclass
class Cluster:
    """The nodes, of which the first is the broker of `servers`."""

    servers: Infrastructure
    #: The port of each node, beginning with the first.
    amqp_ports: list[int]
    _others: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def start_node(self, name: str) -> None:
        """Start a node that joins the first node, with its own home and ports."""
        first: Any = self.servers._broker
        state = _state_of(first.state, name)
        epmd_port = int(first.process.environment["ERL_EPMD_PORT"])
        ports = own_ports().model_copy(update={"epmd_port": epmd_port})
        broker.prepare(state, ports)
        (process,) = (p for p in broker.processes(state, ports) if p.name == "rabbitmq")
        home = process.directory
        configuration = (home / "rabbitmq.conf").read_text()
        process.account.file(home / "rabbitmq.conf", configuration + _JOIN)
        cookie = (first.process.directory / ".erlang.cookie").read_text()
        process.account.file(home / ".erlang.cookie", cookie, mode=0o400)
        environment = {**process.environment, "RABBITMQ_NODENAME": f"{name}@localhost"}
        environment[ERLANG] += FEW_SCHEDULERS
        with (state.path / "log").open("wb") as log:
            node = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *process.command],
                cwd=home,
                env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **process.account.subprocess_arguments(),
            )
        self._others.append(node)
        self.amqp_ports.append(ports.amqp_port)

    def run(self, line: str) -> None:
        """Run one of RabbitMQ's own commands on the first node."""
        program, *words = line.split()
        first: Any = self.servers._broker
        first.control(*words, program=program)

    def assert_whole(self) -> None:
        """Require that all nodes run and form a cluster."""
        with httpx.Client(
            base_url=f"{self.servers.management_url}/api",
            auth=("deployer", self.servers.deployer_password),
            verify=tls.http_context(self.servers.ca_file),
        ) as client:
            nodes = client.get("/nodes").json()
        running = [node["name"] for node in nodes if node["running"]]
        assert len(running) == len(self.amqp_ports), running

    def stop(self) -> None:
        """Kill every node except the first."""
        for node in self._others:
            os.killpg(node.pid, signal.SIGKILL)
            node.wait()


@contextmanager
def cluster(state_dir: Path) -> Iterator[Cluster]:
    """Run three nodes and a PostgreSQL during the block."""
    with infrastructure(state_dir) as servers:
        nodes = Cluster(servers, [servers.amqp_port])
        try:
            for name in ("two", "three"):
                nodes.start_node(name)
                # The nodes start one after the other, because two nodes that join at the same time
                # may deadlock.
                eventually(nodes.assert_whole)
            yield nodes
        finally:
            nodes.stop()


def _state_of(state: StateDirectory, name: str) -> StateDirectory:
    """Return a directory for another node, with the same secrets and certificates."""
    other = StateDirectory(state.path / name)
    other.path.mkdir(mode=0o711)
    for shared in (state.secrets, state.tls):
        (other.path / shared.name).symlink_to(shared)
    return other
