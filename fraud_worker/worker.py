"""Process: judges the orders that it hears of."""

from eventbus.worker.events import make_worker
from fraud_worker.declaration import FRAUD
from fraud_worker.handlers import BATCH_HANDLERS, HANDLERS
from fraud_worker.settings import WorkerSettings

app = make_worker(
    FRAUD,
    HANDLERS,
    WorkerSettings,
    config="celeryconfig.worker",
    batch_handlers=BATCH_HANDLERS,
    # An order is confirmed meanwhile; a late suspicion cancels it just as well.
    batch_interval=0.25,
)
