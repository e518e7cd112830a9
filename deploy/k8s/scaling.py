"""How many of a program run: as many as what waits, and how long it has waited, ask for."""

from typing import Any

from deploy.k8s.environment import PROMETHEUS
from deploy.local.processes.programs import Program

#: Waiting events that one worker more is started for. A worker handles some thousands a second,
#: so this is a second's work; below it a second one would find nothing to do.
_QUEUE = 2_000

#: Seconds for each worker. From an event's commit to its effect's, of 19 in 20 events; retries
#: would be among the twentieth. Events that wait longer wait for a worker.
_AGE = 5

#: Seconds for each mailer that a mail could have left.
_MAIL_AGE = 30

#: More pods are more sessions in one database, whose limit is computed from this number: see
#: `max_connections` in deploy/k8s/base/postgres.yaml.
_MOST = 6


def scaled_object(program: Program) -> dict[str, Any] | None:
    """Return how KEDA scales a program, or None for one that more of do no more.

    One relay drains an outbox at a time; beat, the console and onlookers need no second.
    """
    triggers = _triggers(program)
    if not triggers:
        return None
    # Prometheus is away: as many as usual. KEDA refuses it for a program that is scaled by its CPU,
    # and, before 2.18, beside any trigger that is not of the type AverageValue.
    fallback = {"fallback": {"failureThreshold": 5, "replicas": 2}}
    return {
        "scaleTargetRef": {"name": program.name},
        "minReplicaCount": 2,
        "maxReplicaCount": _MOST,
        "pollingInterval": 15,
        # Who is no longer needed is asked to end slowly: a queue comes in waves.
        "advanced": {
            "horizontalPodAutoscalerConfig": {
                "behavior": {
                    "scaleDown": {
                        "stabilizationWindowSeconds": 300,
                        "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}],
                    }
                }
            }
        },
        **({} if any(t["type"] == "cpu" for t in triggers) else fallback),
        "triggers": triggers,
    }


def _triggers(program: Program) -> list[dict[str, Any]]:
    service = program.user
    if program.name == "api":
        # What it waits for is its own CPU, which needs no Prometheus.
        return [{"type": "cpu", "metricType": "Utilization", "metadata": {"value": "70"}}]
    if program.name == "notification-mailer":
        return [_prometheus("max(orders_mail_overdue_seconds)", _MAIL_AGE)]
    if not program.name.endswith("-worker"):
        return []
    waiting = f'sum(rabbitmq_detailed_queue_messages{{queue="{service}.queue"}})'
    rate = f'rate(orders_event_handled_seconds_bucket{{service="{service}"}}[2m])'
    # No event at all is no age.
    age = f"histogram_quantile(0.95, sum by (le) ({rate})) > 0 or vector(0)"
    return [_prometheus(waiting, _QUEUE), _prometheus(age, _AGE)]


def _prometheus(query: str, threshold: int) -> dict[str, Any]:
    # Divided by the threshold it is the number of pods, whatever their number now.
    metadata = {"serverAddress": PROMETHEUS, "query": query, "threshold": str(threshold)}
    return {"type": "prometheus", "metricType": "AverageValue", "metadata": metadata}
