"""Celery settings for processes that run loops: relays, the mailer and the reader."""

from eventbus.celeryconfig.ticker import *
