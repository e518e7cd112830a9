"""The ports of a local run, from the environment and `.env`."""

# ruff: noqa: S603, every command is a list of this project's constants

import random
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import Field, ValidationError, create_model, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from common.kombu_topology import SERVICES
from deploy.local.problem import Problem
from deploy.local.progress import step

Port = Annotated[int, Field(ge=1, le=65535)]

#: The lowest port that outgoing connections use, see `ip_local_port_range`.
FIRST_EPHEMERAL_PORT = 32_768

#: The ports from which a run chooses if other runs are active on the same machine.
CHOICE = range(20_000, FIRST_EPHEMERAL_PORT)

#: The first metrics port of the services' processes, counted from the API's port.
_FIRST_METRICS_PORT = 51

#: Seconds for which Linux keeps the port of a closed connection, plus one.
TIME_WAIT = 61.0


class _Ports(BaseSettings):
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
    # For a high AMQP port, RabbitMQ's own rule (+20000) exceeds the range of ports, or collides
    # with ephemeral ones.
    amqp = int(data["amqp_port"])
    return amqp + distance if amqp + distance < FIRST_EPHEMERAL_PORT else amqp - distance // 10


def _beside_api(data: Mapping[str, Any], distance: int) -> int:
    api = int(data["api_port"])
    return api + distance if api + distance < 2**16 else api - distance


def _following(distance: int) -> Callable[[dict[str, Any]], int]:
    def default(data: dict[str, Any]) -> int:
        return _beside_api(data, distance)

    return default


def _metrics_ports() -> dict[str, Any]:
    """Return a port for the metrics of each process of a service; the API has its own.

    By default the ports follow the API's port, in the order of the services.
    """
    names = [name.replace("-", "_") for service in SERVICES for name in service.processes]
    return {
        f"{name}_metrics_port": (
            Port,
            Field(default_factory=_following(_FIRST_METRICS_PORT + index)),
        )
        for index, name in enumerate(names)
    }


if TYPE_CHECKING:
    Ports = _Ports
else:
    Ports = create_model("Ports", __base__=_Ports, __doc__=_Ports.__doc__, **_metrics_ports())


def configured_ports(env_file: Path) -> Ports:
    """Return the ports from the environment, else from this file, else the defaults.

    Raises `Problem` naming the first invalid variable.
    """
    try:
        return Ports(_env_file=env_file)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0]).upper() + ": " if first["loc"] else ""
        reason = first["msg"].removeprefix("Value error, ")
        raise Problem(f"{name}{reason}; see .env and the environment") from None


def free_ports(candidates: Iterable[int] | None = None) -> Ports:
    """Return ports on which nothing listens now, for a run on a machine with other runs.

    They are the first free ones of the candidates, by default of `CHOICE` in random order.
    """
    names = list(Ports.model_fields)
    free = filter(is_free, islice(candidates or shuffled(CHOICE), 20 * len(names)))
    return Ports.model_validate(dict(zip(names, free, strict=False)))


def shuffled(choice: Sequence[int]) -> list[int]:
    """Return these ports in a random order that differs in every run."""
    # The generator is not the seeded one, with which two runs could choose the same ports.
    return random.SystemRandom().sample(choice, len(choice))


def is_free(port: int) -> bool:
    """Return whether nothing listens on this port of 127.0.0.1.

    Raises `PermissionError` for a port on which this user may not listen.
    """
    with socket.socket() as probe:
        # Without this option, the port of a recently closed connection counts as in use.
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

    Waits for a port that is held only by a closed connection. Raises `Problem` naming the port, its
    holder and the variable that changes it.
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
    # Any outgoing connection of this machine may have used an ephemeral port.
    with step(f"waiting for port {port}, which a closing connection still holds"):
        deadline = time.monotonic() + TIME_WAIT
        while not is_free(port) and time.monotonic() < deadline:
            time.sleep(0.5)
    return is_free(port)


def _holder(port: int) -> str:
    if not (ss := shutil.which("ss")):
        return ""
    command = [ss, "-Htanp", f"sport = :{port}"]
    sockets = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    match = re.search(r'\("([^"]+)",pid=(\d+)', sockets)
    return f" by {match[1]} (pid {match[2]})" if match else ""
