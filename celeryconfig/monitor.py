"""Celery settings for Flower, which consumes no tasks."""

from celeryconfig.base import *

# When the connection of a monitoring program ends, the broker deletes its queue.
event_queue_exclusive = True
event_queue_durable = False
