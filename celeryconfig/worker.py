"""Celery settings of a service's event worker: its capacity, besides what the library requires."""

from eventbus.celeryconfig.worker import *

# Child processes of each worker.
worker_concurrency = 2
# Prefetched messages per child: two full micro-batches, so the next one is ready when a child has
# finished.
worker_prefetch_multiplier = 200
