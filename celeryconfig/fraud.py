"""Celery settings of the fraud check's worker."""

from celeryconfig.worker import *
