"""Celery settings for processes that run loops, such as relays."""

from eventbus.celeryconfig.base import *

# One process handles one tick at a time: a second process would only wait for the lock of the
# first.
worker_pool = "solo"
worker_concurrency = 1
worker_prefetch_multiplier = 1
# A tick is a hint, not work: it is acknowledged on receipt, and the next tick follows in a second.
task_acks_late = False
# The solo pool cannot cancel tasks.
worker_cancel_long_running_tasks_on_connection_loss = False
# The unit is seconds. The solo pool does not support time limits either.
task_soft_time_limit = None
task_time_limit = None
