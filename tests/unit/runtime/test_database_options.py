"""Each wait for the database has a limit, and a machine that has disappeared is detected."""

import re
from pathlib import Path

import certifi
import pytest

from eventbus.database import db, statement_limit
from eventbus.settings.database import DatabaseSettings
from tests.support.documents import text


def settings(hosts: str, timeout: float = 10) -> DatabaseSettings:
    return DatabaseSettings(
        database_host=hosts,
        database_name="orders",
        database_user="orders",
        database_password="secret",
        database_ca_file=Path(certifi.where()),
        database_statement_timeout=timeout,
    )


def test_a_lost_machine_is_detected_within_the_documented_time() -> None:
    # Given the parameters of each connection
    options = db.engine_options(settings("db"), pool_size=1)["connect_args"]
    assert isinstance(options, dict)
    probes = options["keepalives_interval"] * options["keepalives_count"]

    # Then the documents state the limits: while it waits, and while it sends
    waits, sends = options["keepalives_idle"] + probes, options["tcp_user_timeout"] / 1000
    assert f"closed within {waits:g} seconds" in text("docs/operations/databases-and-backups.md")
    stated = f": {sends:g} seconds while the process sends, {waits:g} while it waits |"
    assert stated in " ".join(text("docs/operations/settings.md").split())


@pytest.mark.parametrize(("hosts", "connecting"), [("one", 5), ("one,two:5433,three", 15)])
def test_a_response_has_time_to_connect_to_each_server(hosts: str, connecting: int) -> None:
    limit = db.response_limit(settings(hosts, timeout=7))

    assert limit == connecting + db.statement_limit(settings(hosts, timeout=7))


def test_the_server_ends_a_statement_before_the_client_does() -> None:
    assert db.statement_limit(settings("one", timeout=7)) > 7


def test_a_scrape_ends_before_prometheus_gives_up() -> None:
    # Given the time for which Prometheus waits
    (waits,) = re.findall(r"scrape_timeout: (\d+)s", text("deploy/compose/prometheus.yml"))

    # Then it is longer than a connect and a statement without a response
    limits = db._SCRAPE_CONNECT_TIMEOUT + db._SCRAPE_LIMIT + statement_limit._TICK
    assert limits < float(waits)
