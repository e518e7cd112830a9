"""Celery settings of the order service's worker."""

from celeryconfig.worker import *
