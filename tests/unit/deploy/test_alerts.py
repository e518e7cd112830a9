"""Each alert fires when it should and only then, and leads to a runbook."""

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from eventbus.topology.limits import QUEUE_LIMIT

ROOT = Path(__file__).parents[3]
RULES = ROOT / "deploy/prometheus/alerts.yml"
#: Labels of every alert and every series.
_ALWAYS = {"alertname", "__name__"}

ALERTS = re.findall(r"- alert: (\w+)", RULES.read_text())

DAY = 86400


@dataclass(frozen=True)
class Case:
    """Series (in promtool's notation, one value each minute) with which an alert must fire."""

    at: str
    bad: dict[str, str]
    good: dict[str, str]
    #: What each alert that fires is about.
    about: tuple[dict[str, str], ...] = ({},)


def _requests(route: str, status: str) -> str:
    return f'orders_http_request_seconds_count{{route="{route}",status="{status}"}}'


def _rows(metric: str, table: str) -> str:
    return f'orders_{metric}_seconds{{service="order",process="order-relay",table="{table}"}}'


def _attempts(service: str, outcome: str) -> str:
    return f'orders_handler_seconds_count{{service="{service}",outcome="{outcome}"}}'


def _queue(figure: str, service: str) -> str:
    return f'rabbitmq_detailed_queue_{figure}{{queue="{service}.queue"}}'


def _node(name: str) -> str:
    return f'rabbitmq_identity_info{{job="rabbitmq",rabbitmq_node="{name}"}}'


CASES = {
    "RelayStopped": Case(
        at="10m",
        bad={
            'orders_relay_pass_age_seconds{service="order",process="api"}': "0+60x20",
            'orders_outbox_oldest_unsent_seconds{service="inventory"}': "0+60x20",
        },
        good={
            'orders_relay_pass_age_seconds{service="order",process="api"}': "1x20",
            # Somebody is waiting all the time, but nobody for long.
            'orders_outbox_oldest_unsent_seconds{service="inventory"}': "2 0 5 1 3x20",
        },
        about=({"service": "inventory"}, {"service": "order"}),
    ),
    "CatchUpStalled": Case(
        at="15m",
        bad={'orders_overflow_stalled_seconds{service="fraud",process="fraud-relay"}': "0+60x20"},
        good={
            'orders_overflow_stalled_seconds{service="fraud",process="fraud-relay"}': "0 300 0x20"
        },
        about=({"service": "fraud"},),
    ),
    "CatchUpIncomplete": Case(
        at="5m",
        bad={'orders_overflow_gaps{service="fraud",process="fraud-relay"}': "1x20"},
        good={'orders_overflow_gaps{service="fraud",process="fraud-relay"}': "0x20"},
        about=({"service": "fraud"},),
    ),
    "AnalyticsBehind": Case(
        at="10m",
        bad={'orders_analytics_behind_seconds{process="analytics-reader"}': "0+60x20"},
        # An hour of events was read at once.
        good={'orders_analytics_behind_seconds{process="analytics-reader"}': "3600 0x20"},
    ),
    "AnalyticsIncomplete": Case(
        at="5m",
        bad={'orders_analytics_gaps{process="analytics-reader"}': "1x20"},
        good={
            'orders_analytics_gaps{process="analytics-reader"}': "0x20",
            'orders_analytics_skipped{process="analytics-reader"}': "0x20",
        },
    ),
    "EventUnroutable": Case(
        at="5m",
        bad={'orders_outbox_unroutable{service="order",process="api"}': "1x20"},
        good={'orders_outbox_unroutable{service="order",process="api"}': "0x20"},
        about=({"service": "order"},),
    ),
    "QueueGrowing": Case(
        at="15m",
        bad={'rabbitmq_detailed_queue_messages{queue="order.queue"}': "900+100x20"},
        good={
            # A long one that gets shorter, a short one that grows, and a queue that holds copies.
            'rabbitmq_detailed_queue_messages{queue="order.queue"}': "9000-100x20",
            'rabbitmq_detailed_queue_messages{queue="inventory.queue"}': "0+10x20",
            'rabbitmq_detailed_queue_messages{queue="order.dlq"}': "900+100x20",
        },
        about=({"queue": "order.queue"},),
    ),
    "QueueWithoutConsumer": Case(
        at="5m",
        bad={'rabbitmq_detailed_queue_consumers{queue="inventory.queue"}': "1 0x20"},
        good={
            'rabbitmq_detailed_queue_consumers{queue="inventory.queue"}': "1 0 1x20",
            # Nobody consumes these, ever.
            'rabbitmq_detailed_queue_consumers{queue="inventory.retry.1s"}': "0x20",
            'rabbitmq_detailed_queue_consumers{queue="inventory.dlq"}': "0x20",
        },
        about=({"queue": "inventory.queue"},),
    ),
    "MessageParked": Case(
        at="5m",
        bad={'rabbitmq_detailed_queue_messages{queue="order.dlq"}': "0 1x20"},
        good={
            'rabbitmq_detailed_queue_messages{queue="order.dlq"}': "0x20",
            'rabbitmq_detailed_queue_messages{queue="order.queue"}': "1x20",
        },
        about=({"queue": "order.dlq"},),
    ),
    "OrdersStuckPending": Case(
        at="19m",
        bad={'orders_oldest_pending_seconds{process="api"}': "0+60x20"},
        good={'orders_oldest_pending_seconds{process="api"}': "0+50x18 0 0 0"},
    ),
    "BrokerUnreachable": Case(
        at="5m",
        bad={
            'up{job="rabbitmq"}': "1 0x20",
            'orders_broker_connected{process="order-worker"}': "1 0x20",
        },
        good={
            'up{job="rabbitmq"}': "1x20",
            'orders_broker_connected{process="order-worker"}': "1x20",
        },
        about=({"job": "rabbitmq"}, {"process": "order-worker"}),
    ),
    "DatabaseUnreachable": Case(
        at="5m",
        bad={'orders_database_up{process="order-relay"}': "1 0x20"},
        good={'orders_database_up{process="order-relay"}': "1x20"},
        about=({"process": "order-relay"},),
    ),
    "WorkerDown": Case(
        at="5m",
        bad={'up{job="orders",process="order-worker"}': "1 0x20"},
        good={'up{job="orders",process="order-worker"}': "1 0 1x20"},
        about=({"job": "orders", "process": "order-worker"},),
    ),
    "OnlookerDown": Case(
        at="10m",
        bad={'up{job="flower"}': "1 0x20", 'up{job="exporter"}': "1 0x20"},
        # It was restarted, and others are not meant.
        good={'up{job="flower"}': "1 1 0 0 1x20", 'up{job="orders"}': "0x20"},
        about=({"job": "exporter"}, {"job": "flower"}),
    ),
    "RequestsRefused": Case(
        at="10m",
        # Two in a hundred.
        bad={
            _requests("/orders", "201"): "0+980x20",
            _requests("/orders", "503"): "0+20x20",
        },
        good={
            _requests("/orders", "201"): "0+1000x20",
            _requests("/orders", "503"): "0 100x20",
            # A probe's answer, to each load balancer that asks.
            _requests("/readyz", "503"): "0+1000x20",
        },
    ),
    "RetentionBehind": Case(
        at="90m",
        bad={
            _rows("oldest_row", "outbox"): f"{16 * DAY}x100",
            _rows("retention", "outbox"): f"{14 * DAY}x100",
        },
        good={
            # The next pass takes it.
            _rows("oldest_row", "outbox"): f"{14 * DAY + 60}x100",
            _rows("retention", "outbox"): f"{14 * DAY}x100",
            _rows("oldest_row", "inbox"): f"{16 * DAY}x100",
            _rows("retention", "inbox"): f"{30 * DAY}x100",
        },
        about=({"service": "order", "table": "outbox"},),
    ),
    "MailStuck": Case(
        at="10m",
        bad={'orders_mail_overdue_seconds{process="notification-mailer"}': "0+60x20"},
        good={
            'orders_mail_overdue_seconds{process="notification-mailer"}': "0x20",
            # One mail waits for days for a full mailbox.
            'orders_mail_oldest_waiting_seconds{process="notification-mailer"}': "0+60x20",
        },
    ),
    "CertificateEnding": Case(
        # Time begins at 0 here.
        at="5m",
        bad={
            'orders_certificate_not_after_seconds{server="broker",process="a"}': f"{13 * 86400}x20",
            'orders_certificate_not_after_seconds{server="broker",process="b"}': f"{13 * 86400}x20",
            # It has ended.
            'orders_certificate_not_after_seconds{server="database",process="a"}': "-60x20",
        },
        good={
            'orders_certificate_not_after_seconds{server="broker",process="a"}': f"{15 * 86400}x20",
        },
        about=({"server": "broker"}, {"server": "database"}),
    ),
    "AttemptsFailing": Case(
        at="6m",
        bad={
            _attempts("order", "handled"): "0+100x20",
            _attempts("order", "failed"): "0+20x20",
            # A release that knows other words.
            _attempts("inventory", "retry"): "0+20x20",
        },
        good={
            # One in a hundred, and one event of a quiet night.
            _attempts("order", "handled"): "0+1000x20",
            _attempts("order", "failed"): "0+10x20",
            _attempts("inventory", "failed"): "0 1x20",
            _attempts("fraud", "paused"): "0+100x20",
            _attempts("fraud", "duplicate"): "0+100x20",
        },
        about=({"service": "inventory"}, {"service": "order"}),
    ),
    "ConsumerStalled": Case(
        at="30m",
        bad={
            _queue("messages_unacked", "order"): "400x40",
            _attempts("order", "handled"): "0+100x4 500x40",
            # A worker that has never handled anything.
            _queue("messages_unacked", "fraud"): "0x5 1x40",
        },
        good={
            # Always busy, and one that is idle.
            _queue("messages_unacked", "order"): "400x40",
            _attempts("order", "handled"): "0+100x40",
            _queue("messages_unacked", "inventory"): "0x40",
            _attempts("inventory", "handled"): "500x40",
        },
        about=(
            {"queue": "fraud.queue", "service": "fraud"},
            {"queue": "order.queue", "service": "order"},
        ),
    ),
    "QueueStandsStill": Case(
        at="30m",
        bad={
            _queue("messages", "order"): "900000x40",
            _attempts("order", "handled"): "0+100x4 500x40",
        },
        good={
            # It gets shorter, and one event waits for a night.
            _queue("messages", "order"): "900000x40",
            _attempts("order", "handled"): "0+100x40",
            _queue("messages", "inventory"): "1x40",
            'rabbitmq_detailed_queue_messages{queue="order.dlq"}': "900x40",
        },
        about=({"queue": "order.queue", "service": "order"},),
    ),
    "QueueHalfFull": Case(
        at="5m",
        bad={_queue("messages", "order"): f"{QUEUE_LIMIT // 2}x20"},
        good={
            _queue("messages", "order"): f"{QUEUE_LIMIT // 2 - 1}x20",
            'rabbitmq_detailed_queue_messages{queue="orders.stream"}': f"{QUEUE_LIMIT}x20",
        },
        about=({"queue": "order.queue"},),
    ),
    "QueueFiguresMissing": Case(
        at="10m",
        # Prometheus reaches the broker, which tells of its messages only.
        bad={'up{job="rabbitmq-queues"}': "1x20", _queue("messages", "order"): "0x20"},
        good={_queue("messages", "order"): "0x20", _queue("consumers", "order"): "0x20"},
        about=({"queue": "order.queue"},),
    ),
    "BrokerAlarm": Case(
        at="5m",
        bad={
            'rabbitmq_alarms_memory_used_watermark{instance="a"}': "0 1x20",
            'rabbitmq_alarms_memory_used_watermark{instance="b"}': "0x20",
            'rabbitmq_alarms_free_disk_space_watermark{instance="b"}': "0 1x20",
        },
        good={
            'rabbitmq_alarms_memory_used_watermark{instance="a"}': "0x20",
            'rabbitmq_alarms_free_disk_space_watermark{instance="a"}': "0x20",
        },
        about=({"alarm": "disk"}, {"alarm": "memory"}),
    ),
    "BrokerNodeMissing": Case(
        at="60m",
        bad={_node("a"): "1x80", _node("b"): "1x80", _node("c"): "1x30 stale"},
        good={
            # A node was started again, and one came to the cluster.
            _node("a"): "1x80",
            _node("b"): "1x30 stale 1x60",
            _node("c"): "_x30 1x50",
        },
    ),
    "PublishingRefused": Case(
        at="10m",
        bad={'orders_relay_lane_open{service="order",type="order.created"}': "0 1x20"},
        good={'orders_relay_lane_open{service="order",type="order.created"}': "0 1 0x20"},
        about=({"service": "order", "type": "order.created"},),
    ),
    "ConsumptionPaused": Case(
        at="5m",
        bad={'orders_consumption_paused{service="order",reason="database"}': "0 1x20"},
        good={'orders_consumption_paused{service="order",reason="database"}': "0x20"},
        about=({"reason": "database", "service": "order"},),
    ),
    "MailsGivenUp": Case(
        at="10m",
        bad={'orders_mails_total{outcome="given_up"}': "0 0 1x20"},
        good={
            'orders_mails_total{outcome="given_up"}': "7x20",
            'orders_mails_total{outcome="deferred"}': "0+100x20",
        },
    ),
}


def test_half_of_a_queue_is_half_of_its_limit() -> None:
    (half,) = re.findall(r"queue_messages\{.*\}\) >= (\d+)", RULES.read_text())

    assert int(half) * 2 == QUEUE_LIMIT


def test_there_is_a_case_for_every_alert() -> None:
    assert ALERTS
    assert set(CASES) == set(ALERTS)


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_fires(alert: str, tmp_path: Path) -> None:
    case = CASES[alert]
    fired = firing(alert, case.bad, case.at, tmp_path)
    assert {labels.pop("severity") for labels in fired} <= {"warning", "critical"}
    assert sorted(fired, key=str) == sorted(case.about, key=str)


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_does_not_fire_while_all_is_well(alert: str, tmp_path: Path) -> None:
    case = CASES[alert]
    assert firing(alert, case.good, case.at, tmp_path) == []


def test_the_time_since_a_parking_lot_was_empty_is_recorded(tmp_path: Path) -> None:
    # given one that was empty for the last time 10 minutes ago, and one that is empty now
    name, depth = "orders_parked_lasting_seconds", "rabbitmq_detailed_queue_messages"
    series = {f'{depth}{{queue="order.dlq"}}': "5 0 1 1x20", f'{depth}{{queue="x.dlq"}}': "1 0x20"}
    samples = [
        {"labels": f'{name}{{queue="order.dlq"}}', "value": 600},
        {"labels": f'{name}{{queue="x.dlq"}}', "value": 0},
    ]
    expected = {"expr": name, "eval_time": "11m", "exp_samples": samples}

    # then
    assert _promtool(series, {"promql_expr_test": [expected]}, tmp_path) == ""


def firing(alert: str, series: dict[str, str], at: str, directory: Path) -> list[dict[str, str]]:
    """Return the labels of each alert of this name that promtool finds firing at a time."""
    nothing = {"eval_time": at, "alertname": alert, "exp_alerts": []}
    said = _promtool(series, {"alert_rule_test": [nothing]}, directory)
    if not said:
        return []
    _, _, got = said.partition("got:")
    assert got, said
    fired = [
        dict(re.findall(r'(\w+)="([^"]*)"', labels))
        for labels in re.findall(r"Labels:\{(.*?)\}", got)
    ]
    return [{n: v for n, v in labels.items() if n not in _ALWAYS} for labels in fired]


def _promtool(series: dict[str, str], expected: dict[str, Any], directory: Path) -> str:
    """Return what promtool says is not as expected."""
    inputs = [{"series": name, "values": values} for name, values in series.items()]
    document = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "15s",
        "tests": [{"interval": "1m", "input_series": inputs} | expected],
    }
    file = directory / "test.yml"
    file.write_text(json.dumps(document))
    promtool = shutil.which("promtool")
    assert promtool, "promtool is missing: it is in the Debian package prometheus"
    done = subprocess.run(
        [promtool, "test", "rules", str(file)], capture_output=True, text=True, check=False
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_every_alert_says_what_is_wrong_and_names_its_runbook() -> None:
    # given
    runbooks = (ROOT / "docs/operations/alerts.md").read_text()
    headings = re.findall(r"^### (\w+)$", runbooks, re.MULTILINE)
    rules = re.split(r"- alert: ", RULES.read_text())[1:]
    assert sorted(headings) == sorted(ALERTS)

    for alert, rule in zip(ALERTS, rules, strict=True):
        # when
        (runbook,) = re.findall(r"^ +runbook: (.+)$", rule, flags=re.MULTILINE)

        # then
        assert runbook == f"docs/operations/alerts.md#{alert.lower()}"
        assert re.search(r"^ +summary: \S", rule, flags=re.MULTILINE), alert
