"""Consumption of events, from the message body to the commit, without the Celery worker."""
