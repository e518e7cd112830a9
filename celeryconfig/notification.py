"""Celery settings of the notification service's worker."""

from celeryconfig.worker import *
