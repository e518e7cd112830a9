"""The process that judges the orders whose events it consumes."""

from eventbus.worker.events import make_worker
from fraud_worker.declaration import FRAUD
from fraud_worker.handlers import HANDLERS
from fraud_worker.settings import WorkerSettings

app = make_worker(
    FRAUD,
    HANDLERS,
    WorkerSettings,
    config="celeryconfig.worker",
    # An order may be confirmed in the meantime, but a later suspicion is equally useful.
    batch_interval=0.25,
)
