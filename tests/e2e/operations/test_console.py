"""The operators' web page over a running system, and its process."""

import re
from html import unescape
from pathlib import Path
from urllib.parse import parse_qsl

import pytest
from flask.testing import FlaskClient
from pydantic import SecretStr

from console.settings import ConsoleSettings
from console.web.app import create_app
from deploy.local.processes.programs import PROGRAMS, Health
from deploy.local.servers import credentials
from testkit.eventually import eventually
from testkit.network import plain_http
from testkit.processes.stack import RETRY_TIERS, Stack
from testkit.processes.web_console import confirm
from testkit.programs.mended import INVENTORY_WORKER
from testkit.servers.prometheus import Prometheus
from testkit.servers.workers import own_ports

PASSWORD = "a password of the tests"
LOGIN = ("operator", PASSWORD)


@pytest.fixture
def running(stack: Stack) -> Stack:
    """A running system with stock, metrics and spans."""
    ports = own_ports()
    stack.metrics_ports |= {
        program.name: ports.of(program.metrics_variable)
        for program in PROGRAMS
        if program.health is Health.HEARTBEAT and program.metrics_variable
    }
    stack.stock(TEA=100)
    stack.trace()
    stack.start()
    return stack


def page_over(stack: Stack, prometheus: Prometheus | None = None) -> FlaskClient:
    class Settings(ConsoleSettings):
        """The settings for a test's databases."""

        def database_name(self, service: str) -> str:
            return str(stack.databases[service].url.database)

        def login(self, service: str) -> tuple[str, SecretStr]:
            url = stack.databases[service].url
            return str(url.username), SecretStr(str(url.password))

    broker = stack.broker_admin.model_dump(exclude={"secrets_dir"})
    return create_app(
        Settings(
            **broker,
            database_port=stack.servers.postgres_port,
            database_ca_file=stack.servers.ca_file,
            console_password=PASSWORD,
            console_database_password="not used",
            prometheus_url=prometheus.url if prometheus else None,
        )
    ).test_client()


def test_the_page_shows_health_figures_and_the_trace_of_an_order(
    running: Stack, tmp_path: Path
) -> None:
    # Given decided orders, and a Prometheus
    with Prometheus.over(running, tmp_path / "prometheus") as prometheus:
        page = page_over(running, prometheus)
        order_id = running.place(("TEA", 1))
        running.decided(order_id)
        running.decided(running.place(("NONE", 1)))

        def counted() -> None:
            # When the overview is requested
            html = page.get("/overview", auth=LOGIN).text

            # Then the system is healthy, and each order is counted, including the first
            assert "<h1>Healthy</h1>" in html, re.findall(r"<li>.*?</li>|<p class.*?</p>", html)
            for name, number in (("placed", 2), ("confirmed", 1), ("cancelled", 1)):
                assert f"<dt>{name}, 5 min</dt><dd>{number}</dd>" in html

        def drawn() -> None:
            running.place(("TEA", 1), email="more@example.com")
            html = page.get("/overview", auth=LOGIN).text
            assert html.count('<svg class="chart"') == 4, html.count("No data yet")

        def traced() -> None:
            html = page.get("/orders", query_string={"id": order_id}, auth=LOGIN).text
            assert html.count("<rect ") == 11
            assert "CONFIRMED" in html
            assert "send mail confirmed" in html

        eventually(traced)
        eventually(counted)
        eventually(drawn)


def test_a_stuck_order_is_found_by_its_address_and_repaired(stack: Stack) -> None:
    # Given an order of a customer, at which the inventory fails
    bug = stack.directory / "bug"
    bug.touch()
    stack.extra["BUG"] = str(bug)
    stack.stock(TEA=100)
    stack.trace()
    stack.start("inventory-worker", module=INVENTORY_WORKER)
    stack.start("api", "order-worker", "order-relay", "inventory-relay", "beat")
    order_id = stack.place(("TEA", 1), email="Grace@example.com")
    stack.execute("order", "UPDATE orders SET created_at = created_at - interval '1 minute'")
    page = page_over(stack)

    def parked() -> str:
        # When an operator requests the orders
        html = page.get("/orders", auth=LOGIN).text

        # Then the order is stuck, and its place links to the message
        assert f'href="/orders?id={order_id}"' in html
        assert "is parked at inventory" in html
        (link,) = re.findall(r'href="(/parked/inventory/redrive\?id=[^"]+)"', html)
        return unescape(link)

    link = eventually(parked)
    # And it is found by the address as well, and drawn with its failed attempts
    found = page.get("/orders", query_string={"find": "grace@example.com"}, auth=LOGIN).text
    assert f'href="/orders?id={order_id}"' in found

    def drawn() -> None:
        html = page.get("/orders", query_string={"id": order_id}, auth=LOGIN).text
        assert html.count('<g class="failed">') == len(RETRY_TIERS) + 1
        assert "parked at inventory: KeyError" in html

    eventually(drawn)

    # When the cause is fixed, and the message is redriven from the page
    bug.unlink()
    path, _, query = link.partition("?")
    assert confirm(page, path, **dict(parse_qsl(query))).status_code == 303

    # Then the order is confirmed, and not stuck
    assert stack.decided(order_id) == ("CONFIRMED", None)

    def repaired() -> None:
        assert "Stuck" not in page.get("/orders", auth=LOGIN).text

    eventually(repaired)


def test_the_process_requires_a_password_and_shuts_down(stack: Stack) -> None:
    # Given a running console
    stack.start("console")
    url = f"http://127.0.0.1:{stack.ports.console_port}"
    password = credentials.read(stack.servers.secrets_dir, credentials.CONSOLE)

    # When the page is requested without and with the password
    unauthenticated = plain_http.get(f"{url}/overview", timeout=60)
    authenticated = plain_http.get(f"{url}/overview", auth=("operator", password), timeout=60)
    stack.shut_down("console")

    # Then only the request with the password succeeds, and the password is not logged
    assert (unauthenticated.status_code, authenticated.status_code) == (401, 200)
    assert "no_consumer" in authenticated.text.replace(" ", "_")
    assert password not in stack.log("console")
