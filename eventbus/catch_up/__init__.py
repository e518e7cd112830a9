"""Catch-up: recovery, from the stream, of the events that a service's queue has dropped."""
