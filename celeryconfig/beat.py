"""Celery settings of the clock."""

from celeryconfig.base import *

# In memory: the schedule is code, and a file would only be one more thing to lock and to lose.
beat_scheduler = "scheduler.punctual:PunctualScheduler"
# Seconds. The longest sleep between two looks at the schedule.
beat_max_loop_interval = 1
