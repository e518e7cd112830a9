"""The pause of a service in the web console, with the console's own database role."""

from collections.abc import Callable

import pytest
from flask.testing import FlaskClient
from sqlalchemy import text

from common.kombu_topology import FRAUD, INVENTORY
from console.databases import pauses
from console.databases.service_database import transaction
from console.settings import DatabaseSettings
from testkit.processes.web_console import PASSWORD, cells, confirm, get, token


@pytest.fixture
def database(installation: Callable[[], DatabaseSettings]) -> DatabaseSettings:
    """The databases of the system."""
    return installation()


def resume(console: FlaskClient, service: str, **form: str) -> int:
    path = f"/services/{service}/resume"
    return console.post(path, data=form, auth=("operator", PASSWORD)).status_code


def test_a_service_is_paused_and_resumed_on_the_overview(
    console: FlaskClient, database: DatabaseSettings
) -> None:
    # Given a service whose queue has no consumer
    missing = "<code>fraud.queue</code> has no consumer"
    html = get(console, "/overview").text
    assert missing in html
    assert cells(html, "fraud")["consumption"] == "no consumer"
    assert cells(html, "analytics")["consumption"] == "reads the stream"
    assert "Pause fraud" in get(console, "/services/fraud").text
    assert "Pause" not in get(console, "/services/analytics").text

    # When an operator pauses it with a reason
    done = confirm(console, "/services/fraud/pause", fields={"reason": "judges <b>wrongly</b>"})

    # Then the overview shows the pause, and no missing consumer
    assert done.status_code == 303
    html = get(console, "/overview").text
    assert "fraud: paused" in html
    assert "<strong>fraud is paused</strong> by operator for" in html
    assert "judges &lt;b&gt;wrongly&lt;/b&gt;" in html
    assert missing not in html
    assert cells(html, "fraud")["consumption"] == "paused"
    pause = pauses.read_all(database).paused[FRAUD.name]
    assert (pause.paused_by, pause.reason) == ("operator", "judges <b>wrongly</b>")

    # And when it is resumed, the pause ends
    assert resume(console, "fraud", token=token(console)) == 303
    assert pauses.read_all(database).paused == {}
    assert missing in get(console, "/overview").text


def test_a_pause_that_cannot_be_read_is_unknown_and_hides_no_other(
    console: FlaskClient, database: DatabaseSettings
) -> None:
    # Given a paused service, and a service whose database does not return its pause
    pauses.begin(database, FRAUD, reason="a test", operator="ada")
    with transaction(database, INVENTORY) as session:
        session.execute(text("LOCK TABLE operator_pause IN ACCESS EXCLUSIVE MODE"))

        # When the overview is requested
        html = get(console, "/overview").text

    # Then the pause is shown, and the problem is named
    assert "<strong>fraud is paused</strong> by ada" in html
    assert "The database of the inventory service" in html


def test_a_form_without_a_token_or_a_reason_changes_nothing(
    console: FlaskClient, database: DatabaseSettings
) -> None:
    # Given a paused service
    pauses.begin(database, FRAUD, reason="a test", operator="ada")

    # When forms are incomplete
    forged = resume(console, "fraud")
    unknown = resume(console, "analytics", token=token(console))
    empty = confirm(console, "/services/order/pause", fields={"reason": " "})

    # Then they are refused
    assert (forged, unknown, empty.status_code) == (403, 404, 400)
    assert list(pauses.read_all(database).paused) == ["fraud"]


def test_a_database_that_is_missing_is_the_result_of_the_action(console: FlaskClient) -> None:
    # Given a console without the services' databases
    # When a service is paused
    done = confirm(console, "/services/fraud/pause", fields={"reason": "a test"})

    # Then the overview shows the problem
    assert done.status_code == 303
    assert 'class="note wrong" role="status">fraud: PostgreSQL: ' in get(console, "/overview").text
