"""The process that handles the events that the order service consumes."""

from eventbus.settings.service import ServiceSettings
from eventbus.worker.events import make_worker
from order_app.declaration import ORDER
from order_app.handlers import HANDLERS

app = make_worker(ORDER, HANDLERS, ServiceSettings, config="celeryconfig.worker")
