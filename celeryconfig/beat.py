"""Celery settings for beat."""

from celeryconfig.base import *

# In memory: the schedule is code, and a file would have to be locked, and could be lost.
beat_scheduler = "scheduler.punctual:PunctualScheduler"
# Seconds. The longest sleep between two checks of the schedule.
beat_max_loop_interval = 1
