"""Celery settings for a service's event worker."""

from eventbus.celeryconfig.base import *
from eventbus.consumer.prefetch import PREFETCH

# Tasks run in child processes, because the death of a child affects only its batch, rather than the
# connection with all prefetched messages.
worker_pool = "eventbus.worker.handler_pool:HandlerPool"
# A crash of the whole worker counts as a delivery of every prefetched message. A crash of a child,
# which a bad message can cause, does not count as a delivery, but costs that message one attempt.
# The value applies to each child process. The number of child processes depends on a system's
# capacity, and is not set here.
worker_prefetch_multiplier = PREFETCH
# After a reconnect, Celery reduces the prefetch until its own acknowledgements have been counted.
# Here Celery does not acknowledge messages, so the reduction would never end.
worker_enable_prefetch_count_reduction = False
# A batch that is running when the connection is lost may commit: its events are redelivered, and
# the inbox drops them as duplicates.
worker_cancel_long_running_tasks_on_connection_loss = False
