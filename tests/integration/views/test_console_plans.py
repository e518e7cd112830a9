"""Redrive plans in the web console: made, run, paused and aborted by an operator."""

import re
import threading

import pytest
from amqp import Channel
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from console.models import PlanState
from console.parking.redrive import plans, preparation
from console.parking.redrive.lease import lease
from console.settings import DatabaseSettings
from testkit.data.parked import park_created
from testkit.eventually import eventually
from testkit.processes.web_console import PASSWORD, get, hidden, ids, park, parked_ids

LOGIN = ("operator", PASSWORD)


def make(console: FlaskClient, **criteria: str) -> TestResponse:
    """Make a plan with the form."""
    form = hidden(get(console, "/parked/inventory/plan"))
    return console.post("/parked/inventory/plan", data=form | criteria, auth=LOGIN)


def act(console: FlaskClient, plan: str, action: str, **fields: str) -> TestResponse:
    form = hidden(get(console, "/parked/inventory/plan"))
    return console.post(f"{plan}/{action}", data=form | fields, auth=LOGIN)


@pytest.fixture
def plan(console: FlaskClient, channel: Channel, installed: DatabaseSettings) -> str:
    """The page of a plan with one message; another one does not meet its criteria."""
    park_created(channel)
    park(channel, "e-1", reason="no way")
    made = make(console, type="order.created", failure="ValueError")
    assert made.status_code == 303
    eventually(lambda: _assert_shown(console, made.location, "ready"))
    return made.location


def _assert_shown(console: FlaskClient, plan: str, state: str) -> None:
    assert f'<span class="badge {state}">' in get(console, plan).text


def test_a_plan_shows_its_messages_and_their_effects(console: FlaskClient, plan: str) -> None:
    html = get(console, plan).text

    assert re.search(r"<dt>handle</dt><dd>1</dd>", html)
    assert re.search(r"<dt>not an event</dt><dd>1</dd>", html)
    assert 'aria-label="1 planned, 1 skipped"' in html
    assert f'href="{plan}"' in get(console, "/parked/groups").text
    # And no message has moved
    assert "Run the plan" in html


def test_a_plan_is_shown_while_it_is_prepared(
    console: FlaskClient,
    channel: Channel,
    installed: DatabaseSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a parking lot that takes long to read
    monkeypatch.setattr(preparation, "BATCH", 1)
    park_created(channel)
    park_created(channel)
    read = threading.Event()

    def wait(*_: object) -> str:
        assert read.wait(60)
        return ""

    monkeypatch.setattr(preparation, "unread", wait)

    # When a plan is made
    plan = make(console).location
    try:
        # Then its page shows how far it is, and offers no run
        eventually(lambda: _assert_progress(console, plan, "2 of 2 messages"))
        html = get(console, plan).text
        assert '<span class="badge incomplete">being prepared</span>' in html
        assert "Abort the preparation" in html
        assert "Run the plan" not in html
    finally:
        read.set()

    # And then the plan
    eventually(lambda: _assert_shown(console, plan, "ready"))
    assert 'aria-label="2 planned"' in get(console, plan).text


def _assert_progress(console: FlaskClient, plan: str, text: str) -> None:
    assert text in get(console, plan).text


def test_a_plan_that_was_not_made_shows_the_reason_and_can_be_repeated(
    console: FlaskClient, channel: Channel, installed: DatabaseSettings
) -> None:
    # When a plan is made that no message meets
    park_created(channel)
    plan = make(console, type="order.created", failure="KeyError").location

    # Then its page has the reason, and a link to the form with the criteria
    eventually(lambda: _assert_shown(console, plan, "failed"))
    html = get(console, plan).text
    assert "no parked message of inventory meets the criteria" in html
    assert 'href="/parked/inventory/plan?type=order.created&amp;failure=KeyError"' in html
    assert "Run the plan" not in html


def test_a_plan_that_cannot_be_recorded_is_a_message(
    console: FlaskClient, channel: Channel, installed: DatabaseSettings
) -> None:
    # When a plan is made while another process uses the parking lot
    park_created(channel)
    with lease(installed, "inventory"):
        made = make(console)

    # Then the list of groups has the reason, and no plan is recorded
    assert (made.status_code, made.location) == (303, "/parked/groups#inventory")
    assert "another command plans or redrives messages" in get(console, "/parked/groups").text
    assert plans.newest(installed) == []


def test_a_run_redrives_the_messages_until_it_is_paused_or_aborted(
    console: FlaskClient, channel: Channel, plan: str, installed: DatabaseSettings
) -> None:
    # When a plan is run without a worker
    assert act(console, plan, "run").status_code == 303

    # Then its message moves to the queue, and the run waits for the outcome
    def is_sent() -> None:
        html = get(console, plan).text
        assert '<span class="badge running">running</span>' in html
        assert "1 sent" in html

    eventually(is_sent)
    assert len(ids(channel, "inventory.queue")) == 1
    assert eventually(lambda: parked_ids(channel)) == ["e-1"]

    # When it is paused
    act(console, plan, "pause")

    # Then the run ends, and can be resumed or aborted
    def is_paused() -> None:
        html = get(console, plan).text
        assert '<span class="badge paused">paused</span>' in html
        assert "Resume" in html

    eventually(is_paused)
    act(console, plan, "abort")
    assert '<span class="badge aborted">aborted</span>' in get(console, plan).text
    assert plans.newest(installed)[0].state is PlanState.ABORTED


def test_an_invalid_rate_or_another_services_plan_changes_nothing(
    console: FlaskClient, plan: str, installed: DatabaseSettings
) -> None:
    statuses = [
        act(console, plan, "run", rate=rate).status_code for rate in ("0", "nan", "many", "1e9")
    ]
    other = get(console, plan.replace("inventory", "fraud")).status_code
    forged = console.post(f"{plan}/abort", auth=LOGIN).status_code

    assert (statuses, other, forged) == ([400] * 4, 404, 403)
    assert plans.newest(installed)[0].state is PlanState.READY
