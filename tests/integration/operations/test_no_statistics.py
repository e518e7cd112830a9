"""A broker without statistics: unavailable figures are unknown rather than 0."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from amqp import Message
from click.testing import CliRunner
from flask.testing import FlaskClient

from common.kombu_topology import INVENTORY, SERVICES
from console.actions import health
from console.broker.management import Management
from console.broker.state import BrokerState
from console.orderctl import main
from console.settings import BrokerAdminSettings, ConsoleSettings
from console.web.app import create_app
from deploy.local import REPOSITORY
from testkit.eventually import eventually
from testkit.processes import web_console
from testkit.servers.declaration import TIERS
from testkit.servers.infrastructure import Infrastructure
from testkit.servers.vhosts import Vhost

CONSUMED = [name for service in SERVICES for name, _ in health._consumed(service)]

_SET = "application:set_env(rabbitmq_management_agent,disable_metrics_collector,{}).".format


@pytest.fixture
def without_statistics(servers: Infrastructure, broker: Vhost) -> Iterator[Vhost]:
    """A broker without statistics, with a consumed queue and a queue that holds messages."""
    with broker.connect(confirm_publish=True) as connection:
        channel = connection.default_channel
        for _ in range(3):
            channel.basic_publish(Message("{}"), routing_key=INVENTORY.parking_lot)
        channel.basic_consume(INVENTORY.queue)
        with servers.limited("eval", _SET("true"), _SET("false")):
            yield broker


def settings(vhost: Vhost) -> BrokerAdminSettings:
    return BrokerAdminSettings(**vhost.administrator, retry_tiers=TIERS)


def test_a_consumed_queue_is_not_a_finding(without_statistics: Vhost) -> None:
    # When the health is checked
    checked = health.check(settings(without_statistics))

    # Then AMQP has supplied the consumers
    assert checked.unknown == ()
    assert {f.name for f in checked.findings} == {*CONSUMED} - {INVENTORY.queue}


def test_unavailable_figures_are_unknown(
    without_statistics: Vhost, operator_env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a user that cannot count consumers over AMQP either
    monkeypatch.setattr(health.queue_counts, "consumers", lambda *_: {})

    # When the health is checked
    result = CliRunner().invoke(main, ["health"], env=operator_env)

    # Then the consumers are unknown
    assert (result.exit_code, result.stdout) == (
        0,
        f"unknown: the consumers of {', '.join(CONSUMED)}\n",
    )


def test_messages_are_counted_without_statistics(without_statistics: Vhost) -> None:
    def counted() -> None:
        with Management(settings(without_statistics)) as management:
            state = BrokerState.read(management, with_users=False)
        assert state.queues[INVENTORY.parking_lot]["messages"] == 3

    # The counts of the broker are delayed by a moment.
    eventually(counted)


def test_the_overview_distinguishes_unknown_from_zero(
    without_statistics: Vhost, servers: Infrastructure, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a broker that does not even count messages
    monkeypatch.setattr("console.broker.state._TOTALS", "?")
    page = _page(without_statistics, servers)

    # When the overview is shown
    cells = eventually(lambda: _inventory(page))

    # Then unknown counts are dashes
    assert (cells["queued"], cells["parked"], cells["retrying"]) == ("–", "–", "–")  # noqa: RUF001
    assert cells["consumers"] == "1"
    assert cells["handled"] == cells["arriving"] == "–"  # noqa: RUF001
    # And the parking lot, whose figure is unknown, is not healthy
    text = page.get("/overview", auth=("operator", "x" * 16)).text
    assert "<strong>The number of parked messages is unavailable.</strong>" in text


def test_an_alarm_is_detected_without_statistics(
    without_statistics: Vhost, servers: Infrastructure
) -> None:
    with servers.limited("set_disk_free_limit", "1000000GB", "500MB"):
        eventually(lambda: _assert_alarm(without_statistics))


def test_no_broker_figure_has_a_default() -> None:
    """The console reads figures only by `figure`, which has no default."""
    names = "messages|consumers|messages_ready|messages_unacknowledged|mem_alarm|disk_free_alarm"
    read = re.compile(rf"""\.get\(\s*["']({names})["']|\[["']({names})["']\]""")
    sources = [*(REPOSITORY / "console").rglob("*.py"), *(REPOSITORY / "monitor").rglob("*.py")]

    assert [str(f) for f in sources if read.search(Path(f).read_text())] == []


def _assert_alarm(vhost: Vhost) -> None:
    kinds = {(f.kind, f.name) for f in health.check(settings(vhost)).findings}
    assert (health.Kind.LOW_DISK, "orders@localhost") in kinds


def _page(vhost: Vhost, servers: Infrastructure) -> FlaskClient:
    app = create_app(
        ConsoleSettings(
            **{
                **vhost.administrator,
                "broker_admin_user": "console",
                "broker_admin_password": (servers.secrets_dir / "console.broker")
                .read_text()
                .strip(),
            },
            console_password="x" * 16,
            console_database_password="y",
            database_port=servers.postgres_port,
            database_ca_file=servers.ca_file,
        )
    )
    return app.test_client()


def _inventory(page: FlaskClient) -> dict[str, str]:
    html = page.get("/overview", auth=("operator", "x" * 16)).text
    cells = web_console.cells(html, "inventory")
    assert cells["consumers"] != "0"
    return cells
