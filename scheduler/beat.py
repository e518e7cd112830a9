"""PROCESS: the source of ticks. Several may run, because ticks are only hints, and coalesce."""

from celery.schedules import schedule

from common.kombu_topology import SERVICES
from eventbus.settings.broker import BrokerSettings
from eventbus.worker.broker_app import BrokerApp
from scheduler.punctual import uptime

#: Seconds between two ticks.
TICK_INTERVAL = 1.0

app = BrokerApp("beat", settings=BrokerSettings, config="celeryconfig.beat")
app.add_defaults(
    {
        "beat_schedule": {
            service.tick_queue(tick): {
                "task": service.tick_queue(tick),
                "schedule": schedule(TICK_INTERVAL, nowfun=uptime),
            }
            for service in SERVICES
            for tick in service.ticks
        }
    }
)
