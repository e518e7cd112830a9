"""The number of replicas of a program, which depends on the amount and the age of waiting work."""

from typing import Any

from common import kombu_topology
from deploy.k8s.environment import PROMETHEUS
from deploy.local.processes.programs import Program

#: Waiting events for each worker. A worker handles several thousand events per second, so this is
#: the work of a second. With fewer events, a second worker would be idle.
_QUEUE = 2_000

#: Seconds for each worker, from an event's commit to the commit of its effect, for 95% of the
#: events; retries are among the other 5%. Events that take longer wait for a worker.
_AGE = 5

#: Seconds for each mailer by which the oldest email is overdue.
_MAIL_AGE = 30

#: More pods are more sessions in one database, whose limit is computed from this number: see
#: `max_connections` in deploy/k8s/base/postgres.yaml.
_MOST = 6


def scaled_object(program: Program) -> dict[str, Any] | None:
    """Return how KEDA scales a program, or None if more replicas do no more work.

    One relay drains an outbox, or each part of it; beat, the console and monitoring need no second
    replica.
    """
    triggers = _triggers(program)
    if not triggers:
        return None
    # If Prometheus is down, the usual number of replicas runs. KEDA rejects a fallback for a
    # program that is scaled by its CPU and, before 2.18, for one with a trigger that is not of the
    # type AverageValue.
    fallback = {"fallback": {"failureThreshold": 5, "replicas": 2}}
    return {
        "scaleTargetRef": {"name": program.name},
        "minReplicaCount": 2,
        "maxReplicaCount": _MOST,
        "pollingInterval": 15,
        # Pods are removed slowly, because the load fluctuates.
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
    if program.name == "api":
        # The API is limited by its own CPU, whose metric does not require Prometheus.
        return [{"type": "cpu", "metricType": "Utilization", "metadata": {"value": "70"}}]
    if program.name == "notification-mailer":
        return [_prometheus("max(orders_mail_overdue_seconds)", _MAIL_AGE)]
    if not program.shared.endswith("-worker"):
        return []
    queue = kombu_topology.service(program.user).part_queue(program.part)
    waiting = f'sum(rabbitmq_detailed_queue_messages{{queue="{queue}"}})'
    rate = f'rate(orders_event_handled_seconds_bucket{{service="{program.user}"}}[2m])'
    # Without events there is no age.
    age = f"histogram_quantile(0.95, sum by (le) ({rate})) > 0 or vector(0)"
    return [_prometheus(waiting, _QUEUE), _prometheus(age, _AGE)]


def _prometheus(query: str, threshold: int) -> dict[str, Any]:
    # Divided by the threshold, the value is the number of pods, regardless of the current number.
    metadata = {"serverAddress": PROMETHEUS, "query": query, "threshold": str(threshold)}
    return {"type": "prometheus", "metricType": "AverageValue", "metadata": metadata}
