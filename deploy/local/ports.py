"""The ports of a local run, from the environment and `.env`."""

# ruff: noqa: S603, every command is a list of this project's own words

import random
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from deploy.local.problem import Problem
from deploy.local.progress import step

Port = Annotated[int, Field(ge=1, le=65535)]

#: Below it no port is ever given to an outgoing connection, see `ip_local_port_range`.
FIRST_EPHEMERAL_PORT = 32_768

#: Those that a run beside others chooses from.
CHOICE = range(20_000, FIRST_EPHEMERAL_PORT)

#: Seconds for which Linux keeps the port of a closed connection, and one more.
TIME_WAIT = 61.0


class Ports(BaseSettings):
    """Every port that a local run listens on; always on 127.0.0.1."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    api_port: Port = 8000
    console_port: Port = 8080
    amqp_port: Port = 5671
    management_port: Port = 15671
    rabbitmq_metrics_port: Port = 15692
    rabbitmq_dist_port: Port = Field(default_factory=lambda data: _beside_amqp(data, 20_000))
    epmd_port: Port = Field(default_factory=lambda data: _beside_amqp(data, 20_100))
    postgres_port: Port = 54320
    smtp_port: Port = 1025
    mail_ui_port: Port = 1080
    spans_port: Port = 4318
    prometheus_port: Port = 9090
    flower_port: Port = 5555
    exporter_port: Port = 9808
    # The metrics of each process of the application; the API's are its own.
    order_worker_metrics_port: Port = Field(default_factory=lambda data: _beside_api(data, 51))
    order_relay_metrics_port: Port = Field(default_factory=lambda data: _beside_api(data, 52))
    inventory_worker_metrics_port: Port = Field(default_factory=lambda data: _beside_api(data, 53))
    inventory_relay_metrics_port: Port = Field(default_factory=lambda data: _beside_api(data, 54))
    notification_worker_metrics_port: Port = Field(
        default_factory=lambda data: _beside_api(data, 55)
    )
    notification_mailer_metrics_port: Port = Field(
        default_factory=lambda data: _beside_api(data, 56)
    )
    fraud_worker_metrics_port: Port = Field(default_factory=lambda data: _beside_api(data, 59))
    fraud_relay_metrics_port: Port = Field(default_factory=lambda data: _beside_api(data, 60))
    analytics_reader_metrics_port: Port = Field(default_factory=lambda data: _beside_api(data, 57))

    def of(self, variable: str) -> int:
        """Return the port that a variable sets."""
        return int(getattr(self, variable.lower()))

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names: dict[int, str] = {}
        for name, port in self.model_dump().items():
            if port in names:
                raise ValueError(f"{name.upper()} and {names[port].upper()} are both {port}")
            names[port] = name
        return self


def _beside_amqp(data: Mapping[str, Any], distance: int) -> int:
    # RabbitMQ's own rule (+20000) leaves the range of ports, or meets ephemeral ones, for a
    # high AMQP port.
    amqp = int(data["amqp_port"])
    return amqp + distance if amqp + distance < FIRST_EPHEMERAL_PORT else amqp - distance // 10


def _beside_api(data: Mapping[str, Any], distance: int) -> int:
    api = int(data["api_port"])
    return api + distance if api + distance < 2**16 else api - distance


def configured_ports(env_file: Path) -> Ports:
    """Return the ports that the environment, then this file, then the defaults give.

    Raises `Problem` naming the first variable that is wrong.
    """
    try:
        return Ports(_env_file=env_file)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0]).upper() + ": " if first["loc"] else ""
        reason = first["msg"].removeprefix("Value error, ")
        raise Problem(f"{name}{reason}; see .env and the environment") from None


def free_ports(candidates: Iterable[int] | None = None) -> Ports:
    """Return ports that nothing listens on now, for a run beside others.

    They are the first free ones of the candidates, by default of `CHOICE` at random.
    """
    names = list(Ports.model_fields)
    free = filter(is_free, islice(candidates or shuffled(CHOICE), 20 * len(names)))
    return Ports.model_validate(dict(zip(names, free, strict=False)))


def shuffled(choice: Sequence[int]) -> list[int]:
    """Return these ports in an order that no other run has."""
    # Not the seeded generator: two runs with the same seed would choose the same.
    return random.SystemRandom().sample(choice, len(choice))


def is_free(port: int) -> bool:
    """Tell whether 127.0.0.1 has nothing that listens on this port.

    Raises `PermissionError` for a port that this user may not listen on.
    """
    with socket.socket() as probe:
        # Without it, connections that closed a moment ago count as a port in use.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except PermissionError:
            raise
        except OSError:
            return False
    return True


def require_free(process: str, ports: Mapping[str, int]) -> None:
    """Check that a process can listen on its ports (variable name to port).

    Waits for a port that only a closed connection still holds. Raises `Problem` naming the port,
    its holder and the variable that changes it.
    """
    for variable, port in ports.items():
        try:
            if is_free(port) or (not _has_listener(port) and _becomes_free(port)):
                continue
            reason = f"in use{_holder(port)}"
        except PermissionError:
            reason = "not allowed for this user"
        raise Problem(
            f"port {port} ({variable}, for {process}) is {reason}; set {variable} in .env"
        )


def _has_listener(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _becomes_free(port: int) -> bool:
    # An ephemeral port may have been given to any outgoing connection of this machine.
    with step(f"waiting for port {port}, which a closing connection still holds"):
        deadline = time.monotonic() + TIME_WAIT
        while not is_free(port) and time.monotonic() < deadline:
            time.sleep(0.5)
    return is_free(port)


def _holder(port: int) -> str:
    if not (ss := shutil.which("ss")):
        return ""
    command = [ss, "-Htanp", f"sport = :{port}"]
    shown = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    found = re.search(r'\("([^"]+)",pid=(\d+)', shown)
    return f" by {found[1]} (pid {found[2]})" if found else ""
