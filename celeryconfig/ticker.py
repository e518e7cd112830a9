"""Celery settings of a process that works by the clock: a relay, the mailer."""

from celeryconfig.base import *

# One tick at a time, in one process: another worker would only wait for the first's lock.
worker_pool = "solo"
worker_concurrency = 1
worker_prefetch_multiplier = 1
# A tick is a hint, not work: it is gone once it has been seen, and the next one comes in a second.
task_acks_late = False
# Solo runs no task that could be cancelled.
worker_cancel_long_running_tasks_on_connection_loss = False
# Seconds, for the same reason: solo knows no time limits.
task_soft_time_limit = None
task_time_limit = None
