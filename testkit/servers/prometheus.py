"""A Prometheus that scrapes a test's system every second."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import isnan
from pathlib import Path

import httpx

from deploy.local.processes.programs import PROGRAMS
from deploy.local.servers import prometheus
from testkit.eventually import eventually
from testkit.network import plain_http
from testkit.processes.stack import Stack
from testkit.servers.workers import own_ports


@dataclass(frozen=True)
class Prometheus:
    """A server with the real configuration, except for its intervals."""

    url: str

    @classmethod
    @contextmanager
    def over(
        cls, stack: Stack, directory: Path, ca_file: Path | None = None
    ) -> "Iterator[Prometheus]":
        """Run a server that scrapes a system and its broker.

        `ca_file` is the CA certificate that it trusts, by default the system's.
        """
        directory.mkdir()
        ports = stack.metrics_ports | {"api": stack.ports.api_port}
        targets = [
            prometheus.Target(ports[program.name], program.user, program.name)
            for program in PROGRAMS
            if program.name in ports
        ]
        text = prometheus.configuration(
            targets,
            broker_port=stack.servers.broker_metrics_port,
            monitors=prometheus.monitors(stack.ports),
            ca_file=ca_file or stack.servers.ca_file,
            interval=1,
        )
        (directory / "prometheus.yml").write_text(text)
        port = own_ports().prometheus_port
        with (directory / "log").open("w") as log:
            server = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *prometheus.command(directory, port)],
                cwd=directory,
                stdout=log,
                stderr=log,
            )
        try:
            running = cls(f"http://127.0.0.1:{port}")
            eventually(running.is_ready)
            yield running
        finally:
            os.kill(server.pid, signal.SIGKILL)
            server.wait()

    def is_ready(self) -> None:
        """Raise `AssertionError` until the server responds."""
        try:
            assert plain_http.get(f"{self.url}/-/ready").status_code == httpx.codes.OK
        except httpx.TransportError as error:
            raise AssertionError(str(error)) from None

    def values(self, expr: str) -> list[float]:
        """Return the current values of a query, omitting NaN."""
        response = plain_http.get(f"{self.url}/api/v1/query", params={"query": expr}, timeout=60)
        assert response.status_code == httpx.codes.OK, response.text
        values = [float(sample["value"][1]) for sample in response.json()["data"]["result"]]
        return [value for value in values if not isnan(value)]
