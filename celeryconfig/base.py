"""Celery settings of every process of this shop: `eventbus.celeryconfig.base` has the reasons."""

from eventbus.celeryconfig.base import *
