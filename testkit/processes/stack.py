"""The system's real processes, for tests that start, stop and kill them."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
from sqlalchemy import text

from common.kombu_topology import DATABASES, EVENTS
from console.actions import topology
from console.settings import TopologySettings
from deploy.local import REPOSITORY
from deploy.local.ports import Ports
from deploy.local.processes.health import beats
from deploy.local.processes.programs import API_ENVIRONMENT, PROGRAMS, Health, Program, filled
from deploy.local.servers import credentials
from eventbus import tls
from eventbus.database import db
from eventbus.database.db import Sessions, transaction
from eventbus.messaging.publisher import ConfirmingPublisher
from eventbus.settings.broker import BrokerSettings, broker_url
from inventory_worker import stock
from inventory_worker.movements import Note
from order_app.storage import api_keys
from testkit.eventually import eventually
from testkit.mail.mailbox import Mailbox
from testkit.processes.clocks import Clock
from testkit.processes.launcher import INTERPRETERS, Launched, launcher
from testkit.servers.databases import TestDatabase
from testkit.servers.infrastructure import Infrastructure
from testkit.servers.vhosts import Vhost
from testkit.servers.workers import own_ports

#: Seconds before each further attempt: short, so that a test sees all of them.
RETRY_TIERS = (0.4, 0.8, 1.6)

_PROGRAMS = {program.name: program for program in PROGRAMS}
_UNUSUAL = {"spans", "console"}
_USUAL = [p.name for p in PROGRAMS if p.name not in _UNUSUAL and p.health is not Health.METRICS]


@dataclass
class Stack:
    """Processes of the system on a broker and databases of their own."""

    servers: Infrastructure
    vhost: Vhost
    mailbox: Mailbox
    databases: Mapping[str, TestDatabase]
    directory: Path
    ports: Ports = field(default_factory=own_ports)
    extra: dict[str, str] = field(default_factory=dict)
    #: Where each program shows its metrics; the API always does, others need one.
    metrics_ports: dict[str, int] = field(default_factory=dict)
    #: The wall clocks of programs that do not see the true time.
    clocks: dict[str, Clock] = field(default_factory=dict)
    #: Good for everything.
    api_key: str = ""
    #: Whether programs are forked; each is executed otherwise, with a command line of its own.
    forks: bool = True
    _running: dict[str, "subprocess.Popen[bytes] | Launched"] = field(default_factory=dict)
    _sessions: dict[str, Sessions] = field(default_factory=dict)

    @classmethod
    @contextmanager
    def on(
        cls,
        servers: Infrastructure,
        database_of: Callable[[str], TestDatabase],
        vhost: Vhost,
        mailbox: Mailbox,
        directory: Path,
    ) -> "Iterator[Stack]":
        """Apply the topology; stop what runs, and show its logs' place, at the end."""
        databases = {service.name: database_of(service.name) for service in DATABASES}
        stack = cls(servers, vhost, mailbox, databases, directory)
        list(topology.apply(stack.broker_admin))
        stack.api_key = stack.make_key(*api_keys.Scope)
        try:
            yield stack
        finally:
            stack.stop()
            for sessions in stack._sessions.values():
                sessions.kw["bind"].dispose()

    @property
    def broker_admin(self) -> TopologySettings:
        """The administrator's settings of the test's vhost."""
        return TopologySettings(
            **self.vhost.administrator,
            secrets_dir=self.servers.secrets_dir,
            retry_tiers=RETRY_TIERS,
        )

    def publisher(self) -> ConfirmingPublisher:
        """Return a relay's publisher, of the order service; whoever asked for it closes it."""
        settings = BrokerSettings(
            broker_port=self.vhost.amqp_port,
            broker_vhost=self.vhost.name,
            broker_user="order",
            broker_password=(self.servers.secrets_dir / "order.broker").read_text().strip(),
            broker_ca_file=self.vhost.ca_file,
        )
        return ConfirmingPublisher(
            broker_url(settings),
            tls=tls.broker_options(settings),
            service="order",
            user=settings.broker_user,
            exchange=EVENTS.name,
            heartbeat=30,
        )

    # --- Processes ------------------------------------------------------------------------------

    def start(self, *names: str, module: str | None = None, alias: str | None = None) -> None:
        """Start programs by their names, and wait for their health.

        None named means all but the span store, which `trace` starts, and who only looks.

        `module` replaces the module of one program's Celery app, `alias` its name.
        """
        programs = [_PROGRAMS[name] for name in names or _USUAL]
        for program in programs:
            self._launch(program, module, alias or program.name)
        for program in programs:
            self.wait_until_healthy(alias or program.name)

    def start_failing(self) -> None:
        """Start an inventory that fails as the customer's address asks for."""
        attempts = self.directory / "attempts"
        attempts.mkdir(exist_ok=True)
        self.extra["ATTEMPTS"] = str(attempts)
        self.start("inventory-worker", module="testkit.programs.failing.inventory_worker")

    def trace(self) -> None:
        """Start the span store, and let every process that is started from now on record spans."""
        self.start("spans")
        self.extra["OTLP_ENDPOINT"] = f"http://127.0.0.1:{self.ports.spans_port}"

    def launch(self, name: str, module: str | None = None) -> None:
        """Start a program, or a module for it, and do not wait: it need not become healthy."""
        self._launch(_PROGRAMS[name], module, name)

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a process, and not to its children."""
        os.kill(self._running[name].pid, number)

    def clock(self, name: str) -> Clock:
        """Give a program, which is not started yet, a wall clock of its own."""
        self.clocks[name] = Clock.at(self.directory / "clocks" / name)
        return self.clocks[name]

    def health_file(self, name: str) -> Path:
        """The file that a process touches while it is well."""
        return self.directory / "health" / name

    def pids(self) -> dict[str, list[int]]:
        """The processes of each running program, the children among them."""
        groups: dict[int, list[int]] = {}
        for pid in (int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()):
            with suppress(ProcessLookupError):
                groups.setdefault(os.getpgid(pid), []).append(pid)
        return {name: groups.get(process.pid, []) for name, process in self._running.items()}

    def wait_until_healthy(self, name: str) -> None:
        """Wait until a process shows that it does its work."""

        def healthy() -> None:
            if self._running[name].poll() is not None:
                raise RuntimeError(f"{name} ended: {self.log(name)[-2000:]}")
            if port := _PROGRAMS[name].port if name in _PROGRAMS else "":
                url = f"http://127.0.0.1:{getattr(self.ports, port)}"
                path = "metrics" if _PROGRAMS[name].health is Health.METRICS else "readyz"
                assert _status(f"{url}/{path}") == 200
            elif not name.endswith("beat"):
                assert beats(self.health_file(name))() is None

        eventually(healthy)

    def cut(self, name: str) -> int:
        """Let the broker close a process's connections; returns how many it had by then."""
        found = self.vhost.request("GET", f"/vhosts/{self.vhost.name}/connections").json()
        own = [c["name"] for c in found if c.get("user_provided_name", "").startswith(name)]
        for connection in own:
            with suppress(httpx.HTTPStatusError):
                self.vhost.request("DELETE", f"/connections/{quote(connection, safe='')}")
        return len(own)

    def kill(self, name: str) -> None:
        """End a process and its children with SIGKILL."""
        process = self._running.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        (self.directory / "health" / name).unlink(missing_ok=True)

    def ask_to_end(self, name: str) -> None:
        """End a process as a supervisor does, and wait until it has."""
        self._running[name].terminate()
        self.wait_until_dead(name)

    def wait_until_dead(self, name: str) -> int:
        """Wait until a process has ended by itself; returns how."""
        # Known until it has ended: what does not end is ended with the others.
        status = self._running[name].wait(timeout=60)
        del self._running[name]
        (self.directory / "health" / name).unlink(missing_ok=True)
        return status

    def runs(self, name: str) -> bool:
        """Tell whether a process has not ended."""
        return self._running[name].poll() is None

    def is_running(self, name: str) -> bool:
        """Tell whether a process was started and has not ended."""
        return name in self._running and self.runs(name)

    def stop(self) -> None:
        """End everything."""
        for process in self._running.values():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        for process in self._running.values():
            process.wait()
        self._running.clear()

    def log(self, name: str) -> str:
        """What a process has written."""
        return (self.directory / f"{name}.log").read_text(errors="replace")

    def _launch(self, program: Program, module: str | None, name: str) -> None:
        executable, *arguments = program.command.split()
        if module:
            self._replace_module(arguments, module)
        arguments = [filled(argument, self.ports) for argument in arguments]
        environment = INTERPRETERS | self._environment(program, name)
        log = self.directory / f"{name}.log"
        if self.forks and program.venv == ".venv" and "LD_PRELOAD" not in environment:
            started = launcher().start([executable, *arguments], environment, log)
        else:
            path = REPOSITORY / program.venv / "bin" / executable
            started = _executed([str(path), *arguments], environment, log)
        self._running[name] = started

    @staticmethod
    def _replace_module(arguments: list[str], module: str) -> None:
        if "-A" in arguments:
            arguments[arguments.index("-A") + 1] = module
        else:
            arguments[-1] = module

    def _environment(self, program: Program, name: str) -> dict[str, str]:
        database = self.databases.get(program.user)
        secrets = self.servers.secrets_dir
        return {
            "PATH": os.environ["PATH"],
            "BROKER_PORT": str(self.vhost.amqp_port),
            "BROKER_CA_FILE": str(self.vhost.ca_file),
            "BROKER_VHOST": self.vhost.name,
            "BROKER_USER": program.user,
            "BROKER_PASSWORD_FILE": str(secrets / f"{program.user}.broker"),
            "RETRY_TIERS": ",".join(str(seconds) for seconds in RETRY_TIERS),
            "HEALTH_FILE": str(self.directory / "health" / name),
            "SMTP_HOST": self.mailbox.host,
            "SMTP_PORT": str(self.mailbox.port),
            "MAIL_FROM": "Shop <orders@shop.example>",
            "BROKER_ADMIN_URL": self.vhost.management_url,
            "FLOWER_PASSWORD_FILE": str(secrets / credentials.FLOWER),
            "FLOWER_PORT": str(self.ports.flower_port),
            "EXPORTER_PORT": str(self.ports.exporter_port),
            **self._console_environment(),
            **(API_ENVIRONMENT if program.name == "api" else {}),
            **({k.upper(): str(v) for k, v in database.settings.items()} if database else {}),
            **(
                {"METRICS_PORT": str(self.metrics_ports[name])}
                if name in self.metrics_ports
                else {}
            ),
            **(self.clocks[name].environment if name in self.clocks else {}),
            **self.extra,
        }

    def _console_environment(self) -> dict[str, str]:
        secrets = self.servers.secrets_dir
        return {
            "BROKER_ADMIN_USER": "console",
            "BROKER_ADMIN_PASSWORD_FILE": str(secrets / "console.broker"),
            "CONSOLE_PASSWORD_FILE": str(secrets / credentials.CONSOLE),
            "CONSOLE_DATABASE_PASSWORD_FILE": str(secrets / credentials.READER),
            "DATABASE_PORT": str(self.servers.postgres_port),
            "DATABASE_CA_FILE": str(self.servers.ca_file),
        }

    # --- What a user does, and sees -------------------------------------------------------------

    @property
    def url(self) -> str:
        """Where the API is."""
        return f"http://127.0.0.1:{self.ports.api_port}"

    @property
    def client(self) -> httpx.Client:
        """A client of the API, with the key; each request may take a minute."""
        bearer = {"Authorization": f"Bearer {self.api_key}"}
        return httpx.Client(base_url=self.url, headers=bearer, timeout=60)

    def make_key(self, *scopes: api_keys.Scope) -> str:
        """Make a key to the API."""
        with transaction(self.sessions("order")) as session:
            return api_keys.create(session, "tests", scopes)

    def place(self, *lines: tuple[str, int], email: str = "ada@example.com") -> str:
        """Place an order for (SKU, quantity) lines over HTTP; returns its id."""
        response = self.post_order(*lines, email=email)
        assert response.status_code == 201, response.text
        return str(response.json()["id"])

    def post_order(
        self,
        *lines: tuple[str, int],
        email: str = "ada@example.com",
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        """Try to place an order over HTTP."""
        order = {
            "customer": {"email": email},
            "currency": "EUR",
            "lines": [{"sku": sku, "quantity": n, "unit_price": 500} for sku, n in lines],
        }
        with self.client as client:
            return client.post("/orders", json=order, headers=headers)

    def order(self, order_id: str) -> dict[str, Any]:
        """The order, as the API shows it."""
        with self.client as client:
            response = client.get(f"/orders/{order_id}")
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        return found

    def decided(self, order_id: str, *, within: float = 30) -> tuple[str, str | None]:
        """Wait for the order's outcome; returns its status and reason."""

        def decided() -> tuple[str, str | None]:
            order = self.order(order_id)
            assert order["status"] != "PENDING", order
            return order["status"], order["reason"]

        return eventually(decided, within=within)

    def cancel(self, order_id: str) -> httpx.Response:
        """Cancel the order as the customer."""
        with self.client as client:
            return client.post(f"/orders/{order_id}/cancel")

    def ship(self, order_id: str) -> httpx.Response:
        """Tell the API that the order's goods have left."""
        with self.client as client:
            return client.post(f"/orders/{order_id}/ship")

    def stock(self, **on_hand: int) -> None:
        """Put so many of each SKU on the shelf."""
        note = Note(reason="counted", entered_by="tests")
        with transaction(self.sessions("inventory")) as session:
            for sku, quantity in on_hand.items():
                stock.count(session, sku, quantity, note)

    def reserved(self, sku: str) -> int:
        """How many of a SKU are reserved."""
        (count,) = self.execute("inventory", "SELECT reserved FROM stock WHERE sku = :sku", sku=sku)
        return int(count)

    def mails(self, email: str = "ada@example.com") -> list[str]:
        """The subjects of the mails that a customer has got, in the order of their arrival."""
        return [str(m["Subject"]) for m in self.mailbox.messages if email in str(m["To"])]

    def execute(self, service: str, sql: str, **parameters: Any) -> list[Any]:
        """Run one statement in a service's database; returns its first column."""
        with transaction(self.sessions(service)) as session:
            result = session.execute(text(sql), parameters)
            return list(result.scalars()) if result.returns_rows else []

    def sessions(self, service: str) -> Sessions:
        """Sessions on a service's database."""
        if service not in self._sessions:
            self._sessions[service] = db.sessions(
                db.engine(self.databases[service].service_settings, pool_size=5)
            )
        return self._sessions[service]


def _status(url: str) -> int:
    try:
        return httpx.get(url, timeout=5).status_code
    except httpx.TransportError:
        return 0


def _executed(
    command: Sequence[str], environment: Mapping[str, str], log: Path
) -> "subprocess.Popen[bytes]":
    with log.open("ab") as written:
        return subprocess.Popen(
            # The processes must not outlive a killed test run.
            ["setpriv", "--pdeathsig", "KILL", *command],
            cwd=REPOSITORY,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=written,
            start_new_session=True,
        )
