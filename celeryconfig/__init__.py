"""Celery settings: a base with a reason for each value, and a module for each kind of process.

`eventbus.worker.app` adds the address of the broker and the consumed queue.
"""
