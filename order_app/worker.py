"""Process: handles the events that the order service consumes."""

from common.celery_worker import make_worker
from common.kombu_topology import ORDER
from common.settings import ServiceSettings
from order_app.handlers import HANDLERS, SETS

app = make_worker(ORDER, HANDLERS, ServiceSettings, config="celeryconfig.order", sets=SETS)
