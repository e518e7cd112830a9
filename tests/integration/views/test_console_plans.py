"""Redrive plans in the web console: made, run, paused and aborted by an operator."""

import re

import pytest
from amqp import Channel
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from console.models import PlanState
from console.parking.redrive import plans
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
    made = make(console, type="order.created", failure="KeyError")
    assert (made.status_code, made.location) == (303, "/parked/groups#inventory")
    made = make(console, type="order.created", failure="ValueError")
    assert made.status_code == 303
    return made.location


def test_a_plan_shows_its_messages_and_their_effects(console: FlaskClient, plan: str) -> None:
    html = get(console, plan).text

    assert re.search(r"<dt>handle</dt><dd>1</dd>", html)
    assert re.search(r"<dt>not an event</dt><dd>1</dd>", html)
    assert 'aria-label="1 planned, 1 skipped"' in html
    assert f'href="{plan}"' in get(console, "/parked/groups").text
    # And no message has moved
    assert "Run the plan" in html


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
