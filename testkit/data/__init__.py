"""Rows, events and messages."""
