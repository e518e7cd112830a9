"""Celery settings of a process that runs loops: a relay, the mailer, the reader."""

from eventbus.celeryconfig.ticker import *
