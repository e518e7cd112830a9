"""Catch-up: a service recovers the events that its queue has dropped from the stream."""
