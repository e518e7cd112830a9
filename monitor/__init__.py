"""Flower and celery-exporter: read-only monitoring of the task events that workers publish."""
