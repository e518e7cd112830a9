"""The process that records emails for the events that it consumes."""

from eventbus.settings.service import ServiceSettings
from eventbus.worker.events import make_worker
from notification_worker.declaration import NOTIFICATION
from notification_worker.handlers import HANDLERS

app = make_worker(
    NOTIFICATION,
    HANDLERS,
    ServiceSettings,
    config="celeryconfig.worker",
    # This interval is negligible, because a mail server takes seconds to deliver an email.
    batch_interval=0.25,
)
