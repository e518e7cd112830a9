"""The alerts on services and databases, with series for which each fires or does not fire."""

from tests.support.promtool import Case

DAY = 86400


def _requests(route: str, status: str) -> str:
    return f'orders_http_request_seconds_count{{route="{route}",status="{status}"}}'


def _rows(metric: str, table: str) -> str:
    return f'orders_{metric}_seconds{{service="order",process="order-relay",table="{table}"}}'


def _attempts(service: str, outcome: str) -> str:
    return f'orders_handler_seconds_count{{service="{service}",outcome="{outcome}"}}'


SERVICE_ALERTS = {
    "RelayStopped": Case(
        at="10m",
        bad={
            'orders_relay_pass_age_seconds{service="order",process="api"}': "0+60x20",
            'orders_outbox_oldest_unsent_seconds{service="inventory"}': "0+60x20",
        },
        good={
            'orders_relay_pass_age_seconds{service="order",process="api"}': "1x20",
            # Events are always waiting, but none of them for long.
            'orders_outbox_oldest_unsent_seconds{service="inventory"}': "2 0 5 1 3x20",
        },
        labels=({"service": "inventory"}, {"service": "order"}),
    ),
    "CatchUpStalled": Case(
        at="15m",
        bad={'orders_overflow_stalled_seconds{service="fraud",process="fraud-relay"}': "0+60x20"},
        good={
            'orders_overflow_stalled_seconds{service="fraud",process="fraud-relay"}': "0 300 0x20"
        },
        labels=({"service": "fraud"},),
    ),
    "CatchUpIncomplete": Case(
        at="5m",
        bad={'orders_overflow_gaps{service="fraud",process="fraud-relay"}': "1x20"},
        good={'orders_overflow_gaps{service="fraud",process="fraud-relay"}': "0x20"},
        labels=({"service": "fraud"},),
    ),
    "EventMissing": Case(
        at="5m",
        bad={'orders_ledger_missing{service="console",consumer="fraud"}': "0 1x20"},
        good={'orders_ledger_missing{service="console",consumer="fraud"}': "0x20"},
        labels=({"consumer": "fraud"},),
    ),
    "LedgerBehind": Case(
        at="15m",
        bad={'orders_ledger_pass_age_seconds{service="console"}': "0+60x20"},
        good={'orders_ledger_pass_age_seconds{service="console"}': "0 60 120 0x20"},
    ),
    "AnalyticsBehind": Case(
        at="10m",
        bad={'orders_analytics_behind_seconds{process="analytics-reader"}': "0+60x20"},
        # The reader caught up on an hour of events at once.
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
    "OrdersStuckPending": Case(
        at="19m",
        bad={'orders_oldest_pending_seconds{process="api"}': "0+60x20"},
        good={'orders_oldest_pending_seconds{process="api"}': "0+50x18 0 0 0"},
    ),
    "DatabaseUnreachable": Case(
        at="5m",
        bad={'orders_database_up{process="order-relay"}': "1 0x20"},
        good={'orders_database_up{process="order-relay"}': "1x20"},
        labels=({"process": "order-relay"},),
    ),
    "WorkerDown": Case(
        at="5m",
        bad={'up{job="orders",process="order-worker"}': "1 0x20"},
        good={'up{job="orders",process="order-worker"}': "1 0 1x20"},
        labels=({"job": "orders", "process": "order-worker"},),
    ),
    "MonitorDown": Case(
        at="10m",
        bad={'up{job="flower"}': "1 0x20", 'up{job="exporter"}': "1 0x20"},
        # Flower was restarted. Other jobs have their own alert.
        good={'up{job="flower"}': "1 1 0 0 1x20", 'up{job="orders"}': "0x20"},
        labels=({"job": "exporter"}, {"job": "flower"}),
    ),
    "RequestsRejected": Case(
        at="10m",
        # Two percent of the requests.
        bad={
            _requests("/orders", "201"): "0+980x20",
            _requests("/orders", "503"): "0+20x20",
        },
        good={
            _requests("/orders", "201"): "0+1000x20",
            _requests("/orders", "503"): "0 100x20",
            # The response of the readiness probe to load balancers.
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
            # The next pass of retention deletes the row.
            _rows("oldest_row", "outbox"): f"{14 * DAY + 60}x100",
            _rows("retention", "outbox"): f"{14 * DAY}x100",
            _rows("oldest_row", "inbox"): f"{16 * DAY}x100",
            _rows("retention", "inbox"): f"{30 * DAY}x100",
        },
        labels=({"service": "order", "table": "outbox"},),
    ),
    "MailStuck": Case(
        at="10m",
        bad={'orders_mail_overdue_seconds{process="notification-mailer"}': "0+60x20"},
        good={
            'orders_mail_overdue_seconds{process="notification-mailer"}': "0x20",
            # One email waits for days because its mailbox is full.
            'orders_mail_oldest_waiting_seconds{process="notification-mailer"}': "0+60x20",
        },
    ),
    "CertificateExpiresSoon": Case(
        # promtool starts at time 0.
        at="5m",
        bad={
            'orders_certificate_not_after_seconds{server="broker",process="a"}': f"{13 * 86400}x20",
            'orders_certificate_not_after_seconds{server="broker",process="b"}': f"{13 * 86400}x20",
            # The certificate has expired.
            'orders_certificate_not_after_seconds{server="database",process="a"}': "-60x20",
        },
        good={
            'orders_certificate_not_after_seconds{server="broker",process="a"}': f"{15 * 86400}x20",
        },
        labels=({"server": "broker"}, {"server": "database"}),
    ),
    "AttemptsFailing": Case(
        at="6m",
        bad={
            _attempts("order", "handled"): "0+100x20",
            _attempts("order", "failed"): "0+20x20",
            # An older release with other outcomes.
            _attempts("inventory", "retry"): "0+20x20",
        },
        good={
            # One percent of the attempts, and a single event of a quiet night.
            _attempts("order", "handled"): "0+1000x20",
            _attempts("order", "failed"): "0+10x20",
            _attempts("inventory", "failed"): "0 1x20",
            _attempts("fraud", "duplicate"): "0+100x20",
        },
        labels=({"service": "inventory"}, {"service": "order"}),
    ),
    "ConsumptionPaused": Case(
        at="5m",
        bad={'orders_consumption_paused{service="order",reason="database"}': "0 1x20"},
        good={'orders_consumption_paused{service="order",reason="database"}': "0x20"},
        labels=({"reason": "database", "service": "order"},),
    ),
    "ServicePaused": Case(
        at="5h",
        bad={'orders_operator_pause_seconds{service="fraud"}': "60+60x300"},
        good={
            'orders_operator_pause_seconds{service="fraud"}': "0x300",
            'orders_operator_pause_seconds{service="order"}': "60+60x200 0x100",
        },
        labels=({"service": "fraud"},),
    ),
    "ServicePausedItself": Case(
        at="3m",
        bad={'orders_own_pause{service="fraud"}': "0 1x20"},
        good={
            'orders_own_pause{service="fraud"}': "0x20",
            # An operator has paused the service.
            'orders_operator_pause_seconds{service="fraud"}': "60+60x20",
        },
        labels=({"service": "fraud"},),
    ),
    "MailsAbandoned": Case(
        at="10m",
        bad={'orders_mails_total{outcome="given_up"}': "0 0 1x20"},
        good={
            'orders_mails_total{outcome="given_up"}': "7x20",
            'orders_mails_total{outcome="deferred"}': "0+100x20",
        },
    ),
}
