"""The consumer runtime on Celery: apps, batches, settlement and child processes."""
