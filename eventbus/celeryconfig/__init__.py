"""Celery settings that the guarantees of the library depend on, each with its reason.

`base` applies to every process, `worker` to event workers, `ticker` to processes that run loops.
A system's own settings import these and add its capacity.
"""
