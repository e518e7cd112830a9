"""Celery beat: a tick for each relay, mailer and reader, every second."""
