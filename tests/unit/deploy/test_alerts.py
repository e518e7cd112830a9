"""Each alert fires exactly on its condition, and links its runbook."""

import re
from pathlib import Path

import pytest

from deploy.local import REPOSITORY
from eventbus.topology.limits import QUEUE_LIMIT
from tests.support.broker_alerts import BROKER_ALERTS
from tests.support.promtool import RULES, firing, mismatch
from tests.support.service_alerts import SERVICE_ALERTS

CASES = BROKER_ALERTS | SERVICE_ALERTS

ALERTS = re.findall(r"- alert: (\w+)", RULES.read_text())


def test_the_alert_on_half_full_queues_follows_their_limit() -> None:
    (half,) = re.findall(r"queue_messages\{.*\}\) >= (\d+)", RULES.read_text())

    assert int(half) * 2 == QUEUE_LIMIT


def test_every_alert_has_a_case() -> None:
    assert ALERTS
    assert set(CASES) == set(ALERTS)


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_fires(alert: str, tmp_path: Path) -> None:
    case = CASES[alert]
    fired = firing(alert, case.bad, case.at, tmp_path)
    assert {labels.pop("severity") for labels in fired} <= {"warning", "critical"}
    assert sorted(fired, key=str) == sorted(case.labels, key=str)


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_does_not_fire_without_a_problem(alert: str, tmp_path: Path) -> None:
    case = CASES[alert]
    assert firing(alert, case.good, case.at, tmp_path) == []


def test_the_age_of_the_backlog_of_a_parking_lot_is_recorded(tmp_path: Path) -> None:
    # Given a parking lot that was last empty 10 minutes ago, and one that is empty now
    name, depth = "orders_parked_lasting_seconds", "rabbitmq_detailed_queue_messages"
    series = {f'{depth}{{queue="order.dlq"}}': "5 0 1 1x20", f'{depth}{{queue="x.dlq"}}': "1 0x20"}
    samples = [
        {"labels": f'{name}{{queue="order.dlq"}}', "value": 600},
        {"labels": f'{name}{{queue="x.dlq"}}', "value": 0},
    ]
    expected = {"expr": name, "eval_time": "11m", "exp_samples": samples}

    # Then both values are recorded
    assert mismatch(series, {"promql_expr_test": [expected]}, tmp_path) == ""


def test_every_alert_has_a_summary_and_a_runbook() -> None:
    # Given the runbooks and the rules
    runbooks = (REPOSITORY / "docs/operations/alerts.md").read_text()
    headings = re.findall(r"^### (\w+)$", runbooks, re.MULTILINE)
    rules = re.split(r"- alert: ", RULES.read_text())[1:]
    assert sorted(headings) == sorted(ALERTS)

    for alert, rule in zip(ALERTS, rules, strict=True):
        # When a rule is read
        (runbook,) = re.findall(r"^ +runbook: (.+)$", rule, flags=re.MULTILINE)

        # Then it links its runbook and has a summary
        assert runbook == f"docs/operations/alerts.md#{alert.lower()}"
        assert re.search(r"^ +summary: \S", rule, flags=re.MULTILINE), alert
