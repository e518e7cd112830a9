"""The consumer runtime on Celery: apps, batches, settlement, child processes."""
