"""PROCESS celery -A scheduler.beat beat. Several may run: ticks are hints, and coalesce."""

from celery.schedules import schedule

from common.celery_app import ServiceApp
from common.kombu_topology import SERVICES, TICKS
from common.settings import BrokerSettings
from common.ticker import TICK_INTERVAL

#: Seconds until a tick that is not confirmed is sent on another connection. A healthy broker takes
#: milliseconds; all other ticks wait meanwhile.
CONFIRM_TIMEOUT = 2

app = ServiceApp("beat", settings=BrokerSettings, config="celeryconfig.beat")
app.add_defaults(
    {
        "beat_schedule": {
            service.tick_queue(tick): {
                "task": service.tick_queue(tick),
                "schedule": schedule(TICK_INTERVAL),
                "options": {
                    "exchange": TICKS.name,
                    "routing_key": service.tick_queue(tick),
                    "declare": [],
                    "confirm_timeout": CONFIRM_TIMEOUT,
                },
            }
            for service in SERVICES
            for tick in service.ticks
        }
    }
)
