"""Celery settings of a service's event worker."""

from celeryconfig.base import *

# A child that dies takes one message with it, not the connection with all that are prefetched.
worker_pool = "prefork"
worker_concurrency = 2
# Messages per child that are on their way. Enough to keep it busy; few enough that a crash of the
# worker, which counts as a delivery for all of them, stays small against the delivery limit.
worker_prefetch_multiplier = 10
