"""Celery settings: a base with the reason for each value, and a small module for each process.

`eventbus.worker.app` adds the address of the broker and the consumed queue.
"""
