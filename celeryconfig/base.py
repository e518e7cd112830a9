"""Celery settings for every process of this shop; `eventbus.celeryconfig.base` has the reasons."""

from eventbus.celeryconfig.base import *
