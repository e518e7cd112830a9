"""PROCESS: Flower, a web page of workers and their tasks, protected by a password."""

import logging
import time
from urllib.parse import quote

from celery.events import EventReceiver
from flower.app import Flower
from flower.events import Events
from flower.options import options
from flower.urls import settings as handler_settings
from tornado.httpclient import AsyncHTTPClient
from tornado.ioloop import IOLoop

from common.kombu_topology import CONSUMERS
from eventbus.settings.base import load
from eventbus.telemetry.logs import configure_logging
from eventbus.telemetry.privacy import described
from eventbus.topology.objects import event_queue
from eventbus.worker.broker_app import BrokerApp
from monitor.no_remote_control import Silence, declare_no_exchange
from monitor.settings import FlowerSettings

log = logging.getLogger(__name__)

#: Maximum number of tasks in memory. The oldest task is dropped first.
MAX_TASKS = 10_000

#: Seconds between two attempts to reach the broker.
RETRY_INTERVAL = 2

#: Seconds after which an offline worker is removed.
OFFLINE_LIMIT = 600


class PatientEvents(Events):
    """A receiver that retries at a constant interval, which Flower would double without limit."""

    def run(self) -> None:
        """Receive task events, and reconnect whenever the connection is lost."""
        while True:
            try:
                with self.capp.connection() as connection:
                    handlers = {"*": self.on_event}
                    receiver = EventReceiver(connection, handlers=handlers, app=self.capp)
                    receiver.capture(limit=None, timeout=None, wakeup=False)
            except Exception as error:
                log.warning("task events interrupted", extra={"reason": described(error)})
                time.sleep(RETRY_INTERVAL)


def main() -> None:
    """Serve the page until a signal terminates the process."""
    settings = load(FlowerSettings)
    configure_logging(settings.log_level)
    # This logger logs every request, and Prometheus sends many.
    logging.getLogger("tornado.access").setLevel(logging.ERROR)
    configure(settings)
    declare_no_exchange()
    app = BrokerApp(
        "flower", settings=FlowerSettings, config="celeryconfig.monitor", control=Silence
    )
    # The queues that Flower's page of the broker shows.
    app.conf.task_queues = [event_queue(service) for service in CONSUMERS]
    app.conf.task_default_queue = CONSUMERS[0].queue
    loop = IOLoop.instance()
    events = PatientEvents(
        app,
        loop,
        enable_events=False,
        max_tasks_in_memory=MAX_TASKS,
        max_workers_in_memory=options.max_workers,
    )
    flower = Flower(capp=app, options=options, io_loop=loop, events=events, **handler_settings)
    flower.start_http_server()
    flower.start()


def configure(settings: FlowerSettings) -> None:
    """Set Flower's options, which are global to the process."""
    options.address = settings.metrics_host
    options.port = settings.flower_port
    options.basic_auth = [f"{settings.flower_user}:{settings.flower_password.get_secret_value()}"]
    options.broker_api = _broker_api(settings)
    options.purge_offline_workers = OFFLINE_LIMIT
    # Commands are off, because workers do not accept them.
    options.read_only = True
    # Flower reads the CA's certificate from options that only Redis has.
    AsyncHTTPClient.configure(None, defaults={"ca_certs": str(settings.broker_ca_file)})


def _broker_api(settings: FlowerSettings) -> str:
    user, password = settings.broker_user, settings.broker_password.get_secret_value()
    login = f"//{quote(user, safe='')}:{quote(password, safe='')}@"
    return str(settings.broker_admin_url).rstrip("/").replace("//", login, 1) + "/api/"


if __name__ == "__main__":
    main()
