"""Process: handles the events that the inventory consumes."""

from common.celery_worker import make_worker
from common.kombu_topology import INVENTORY
from common.settings import ServiceSettings
from inventory_worker.handlers import HANDLERS, SETS

app = make_worker(INVENTORY, HANDLERS, ServiceSettings, config="celeryconfig.inventory", sets=SETS)
