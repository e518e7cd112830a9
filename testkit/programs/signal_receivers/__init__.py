"""A real worker with receivers of Celery's signals."""
