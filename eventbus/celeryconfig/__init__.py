"""Celery settings on which the library's guarantees depend, each with its reason.

`base` applies to every process, `worker` to event workers, `ticker` to processes that run loops. A
system's own settings import these modules and add its capacity.
"""
