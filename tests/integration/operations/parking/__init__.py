"""Edits, failure groups and the history of parked messages."""
