"""Changing the number of parts of a queue."""
