"""Consumption of events, from the bytes to the commit, without Celery."""
