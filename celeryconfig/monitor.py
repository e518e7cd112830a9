"""Celery settings for Flower, which consumes no tasks."""

from celeryconfig.base import *

# The broker deletes the queue of a monitoring program with its connection.
event_queue_exclusive = True
event_queue_durable = False
