"""Celery settings for beat."""

from celeryconfig.base import *

# The schedule is kept in memory, because it is code, and a file would have to be locked and could
# be lost.
beat_scheduler = "scheduler.punctual:PunctualScheduler"
# The longest sleep between two checks of the schedule, in seconds.
beat_max_loop_interval = 1
