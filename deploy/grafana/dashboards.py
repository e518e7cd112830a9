"""The dashboards, with the query of each panel."""

from deploy.grafana.panel import Dashboard, Panel, Query

#: Grafana's variable for a span of time that fits the width of the screen.
_SPAN = "$__rate_interval"


def _rate(metric: str, by: str, legend: str, title: str) -> Panel:
    query = f"sum by ({by}) (rate({metric}[{_SPAN}]))"
    return Panel(title=title, unit="ops", queries=(Query(expr=query, legend=legend),))


def _quantiles(metric: str, title: str, description: str = "", by: str = "service") -> Panel:
    return Panel(
        title=title,
        unit="s",
        description=description,
        queries=tuple(
            Query(
                expr=f"histogram_quantile(0.{percent}, "
                f"sum by ({by}, le) (rate({metric}_bucket[{_SPAN}])))",
                legend=f"p{percent} {{{{{by}}}}}",
            )
            for percent in (50, 95, 99)
        ),
    )


def _value(expr: str, legend: str, title: str, unit: str = "short") -> Panel:
    return Panel(title=title, unit=unit, queries=(Query(expr=expr, legend=legend),))


def _of_queue(suffix: str, count: str = "messages") -> str:
    return f'rabbitmq_detailed_queue_{count}{{queue=~"[a-z]+\\\\.{suffix}"}}'


_CONFIRMED = "orders_event_confirmed_seconds"
_OUTCOMES = "order.(confirmed|cancelled)"

FLOW = Dashboard(
    name="flow",
    title="Orders: flow",
    rows=(
        (
            "Orders",
            (
                _rate(
                    f'{_CONFIRMED}_count{{type="order.created"}}', "type", "placed", "Orders placed"
                ),
                _rate(f'{_CONFIRMED}_count{{type=~"{_OUTCOMES}"}}', "type", "{{type}}", "Outcomes"),
                _value("max(orders_oldest_pending_seconds)", "oldest", "Oldest PENDING order", "s"),
            ),
        ),
        (
            "Durations",
            (
                _quantiles(_CONFIRMED, "Commit to confirm", "Time in the relay and the broker."),
                _quantiles(
                    "orders_event_handled_seconds",
                    "Event to effect",
                    "From an event's own time to the commit of its effect, including retries.",
                ),
                _quantiles("orders_handler_seconds", "Handler"),
            ),
        ),
        (
            "Waiting work",
            (
                _value(
                    "max by (service) (orders_outbox_oldest_unsent_seconds)",
                    "{{service}}",
                    "Oldest unsent event",
                    "s",
                ),
                _value(_of_queue("queue"), "{{queue}}", "Events in queues"),
                _value("max(orders_mail_overdue_seconds)", "email", "Email overdue", "s"),
                _value("max by (service) (orders_outbox_unsent)", "{{service}}", "Unsent events"),
                _value(
                    "max by (service, table) (orders_oldest_row_seconds)",
                    "{{service}} {{table}}",
                    "Oldest row that retention will delete",
                    "s",
                ),
            ),
        ),
    ),
)

BROKER = Dashboard(
    name="broker",
    title="Orders: broker",
    rows=(
        (
            "Queues",
            (
                _value(_of_queue("queue"), "{{queue}}", "Events in queues"),
                _value(_of_queue("retry.*"), "{{queue}}", "Events in retry tiers"),
                _value(_of_queue("dlq"), "{{queue}}", "Parked messages"),
                _value("orders_parked_lasting_seconds", "{{queue}}", "Parked for", "s"),
                _value(
                    _of_queue("(queue|relay|mailer)", "consumers"),
                    "{{queue}}",
                    "Consumers",
                ),
                _value(
                    _of_queue("queue", "messages_unacked"),
                    "{{queue}}",
                    "Unacknowledged",
                ),
            ),
        ),
        (
            "Node",
            (
                _value("rabbitmq_process_resident_memory_bytes", "memory", "Memory", "bytes"),
                _value("rabbitmq_disk_space_available_bytes", "free", "Free disk", "bytes"),
                _value("rabbitmq_connections", "connections", "Connections"),
                _rate(
                    "rabbitmq_global_messages_received_total",
                    "protocol",
                    "{{protocol}}",
                    "Messages received",
                ),
                _rate(
                    "rabbitmq_global_messages_confirmed_total",
                    "protocol",
                    "{{protocol}}",
                    "Messages confirmed",
                ),
                _value("rabbitmq_process_open_fds", "files", "Open files"),
            ),
        ),
    ),
)

WORKERS = Dashboard(
    name="workers",
    title="Orders: workers",
    rows=(
        (
            "Handlers",
            (
                _rate(
                    "orders_handler_seconds_count",
                    "service, outcome",
                    "{{service}} {{outcome}}",
                    "Attempts",
                ),
                _rate("orders_retries_total", "service, tier", "{{service}} {{tier}}", "Retries"),
                _rate("orders_parked_total", "service, reason", "{{service}} {{reason}}", "Parked"),
                _quantiles("orders_handler_seconds", "Handler, by type", by="type"),
                _quantiles("orders_http_request_seconds", "HTTP requests", by="route"),
                _rate(
                    "orders_http_request_seconds_count",
                    "status",
                    "{{status}}",
                    "HTTP requests, by status",
                ),
                _value("orders_mail_waiting", "waiting", "Emails waiting"),
            ),
        ),
        (
            "Processes",
            (
                _value('up{job="orders"}', "{{process}}", "Up"),
                _value("orders_broker_connected", "{{process}}", "Connected to the broker"),
                _value(
                    "orders_database_connections", "{{process}} {{state}}", "Database connections"
                ),
                _value(
                    'process_resident_memory_bytes{job="orders"}',
                    "{{process}}",
                    "Memory of the main process",
                    "bytes",
                ),
                _value(
                    f'rate(process_cpu_seconds_total{{job="orders"}}[{_SPAN}])',
                    "{{process}}",
                    "CPU time of the main process",
                    "percentunit",
                ),
                _value(
                    "count by (release, python, celery) (orders_build_info)",
                    "{{release}}, Python {{python}}, Celery {{celery}}",
                    "Releases",
                ),
            ),
        ),
        (
            "Tasks, as monitoring sees them (at most 50 per second and worker)",
            (
                _value("flower_worker_online", "{{worker}}", "Workers known to Flower"),
                _rate("flower_events_total", "worker, type", "{{worker}} {{type}}", "Task events"),
                _value(
                    "sum by (worker) (flower_worker_prefetched_tasks)",
                    "{{worker}}",
                    "Prefetched tasks",
                ),
                _value("celery_worker_up", "{{hostname}}", "Workers known to the exporter"),
                _rate(
                    "celery_task_succeeded_total",
                    "hostname, name",
                    "{{hostname}} {{name}}",
                    "Tasks",
                ),
                _quantiles("celery_task_runtime", "Task, by worker", by="hostname"),
            ),
        ),
    ),
)

DASHBOARDS = (FLOW, BROKER, WORKERS)
