"""Celery settings of Flower, which consumes no task."""

from celeryconfig.base import *

# The broker deletes an onlooker's queue with its connection.
event_queue_exclusive = True
event_queue_durable = False
