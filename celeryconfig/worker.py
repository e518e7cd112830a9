"""Celery settings for a service's event worker: its capacity, on top of the library's settings."""

from eventbus.celeryconfig.worker import *

# Number of child processes of each worker.
worker_concurrency = 2
