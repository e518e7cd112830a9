"""Celery settings: a base with the reason beside each value, and a small module for each process.

Where the broker is and which queue is consumed is not here: `eventbus.worker.app` adds it.
"""
