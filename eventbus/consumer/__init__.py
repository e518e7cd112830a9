"""Consuming events, from the message body to the commit, independently of the Celery worker."""
