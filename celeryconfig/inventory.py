"""Celery settings of the inventory service's worker."""

from celeryconfig.worker import *
