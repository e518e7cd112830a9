"""The process that handles the events that the inventory consumes."""

from eventbus.settings.service import ServiceSettings
from eventbus.worker.events import make_worker
from inventory_worker.declaration import INVENTORY
from inventory_worker.handlers import HANDLERS

app = make_worker(INVENTORY, HANDLERS, ServiceSettings, config="celeryconfig.worker")
