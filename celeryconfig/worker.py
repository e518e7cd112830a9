"""Celery settings of a service's event worker: its capacity, and what the library requires."""

from eventbus.celeryconfig.worker import *

# Child processes of each worker.
worker_concurrency = 2
