"""Celery settings of a service's event worker."""

from celeryconfig.base import *

# Child processes: one that dies takes one message with it, not the connection with all that are
# prefetched.
worker_pool = "eventbus.worker.handler_pool:HandlerPool"
worker_concurrency = 2
# Messages per child that are on their way: two full micro-batches, so that the next is there when
# a child is done. A crash of the whole worker counts as a delivery for all of them; a crash of a
# child, which is what a bad message can cause, for that message only.
worker_prefetch_multiplier = 200
# The reduction after a reconnect counts Celery's own acknowledgements, and would never end here.
worker_enable_prefetch_count_reduction = False
# A batch that runs when the connection is lost may commit: its events come again, and the inbox
# knows them.
worker_cancel_long_running_tasks_on_connection_loss = False
