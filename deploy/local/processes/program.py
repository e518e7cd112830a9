"""A process of the application, as data from which its processes, containers and pods follow."""

from dataclasses import dataclass
from enum import Enum, auto

from common.kombu_topology import SERVICES
from deploy.local import REPOSITORY
from deploy.local.ports import Ports


class Health(Enum):
    """The evidence that a program works."""

    #: `GET /readyz` returns 200.
    READY = auto()
    #: It serves its own metrics at `/metrics`.
    METRICS = auto()
    #: Every few seconds it touches the file that `HEALTH_FILE` names.
    HEARTBEAT = auto()
    #: It has not exited.
    RUNS = auto()


#: The services for which no order waits.
_BACKGROUND = frozenset(service.name for service in SERVICES if not service.essential)


@dataclass(frozen=True)
class Program:
    """A process of the application; `user` is its broker user and the name of its service.

    For a program that serves HTTP, `port` is the name of its field in `Ports`. `venv` is the
    program's virtual environment.
    """

    name: str
    user: str
    command: str
    health: Health = Health.HEARTBEAT
    port: str = ""
    venv: str = ".venv"
    needs_broker: bool = True
    #: Its number among the programs that share its work.
    part: int = 0
    #: Additional environment variables.
    settings: tuple[tuple[str, str], ...] = ()
    #: The offset of its metrics port from the API's port, unless a variable sets the port.
    distance: int = 0

    @property
    def is_background(self) -> bool:
        """Whether it yields on busy processors to the programs that decide orders (ADR 0060)."""
        return self.user in _BACKGROUND

    @property
    def shared(self) -> str:
        """The name of the first of the programs that share its work."""
        return self.name.removesuffix(f"-{self.part}") if self.part else self.name

    @property
    def is_installed(self) -> bool:
        """Whether its virtual environment exists, which depends on the version of Python."""
        return (REPOSITORY / self.venv / "bin/python").exists()

    @property
    def metrics_variable(self) -> str | None:
        """The variable with the port of its metrics, if it serves any."""
        if self.distance:
            return "API_PORT"
        if self.health is Health.HEARTBEAT:
            return f"{self.name.upper().replace('-', '_')}_METRICS_PORT"
        # The API and the console serve metrics on their own port; the span store has no metrics.
        return self.port.upper() if self.name in ("api", "console") else None

    def metrics_port(self, ports: Ports) -> int | None:
        """Return the port of its metrics, if it serves any."""
        variable = self.metrics_variable
        return ports.of(variable) + self.distance if variable else None
