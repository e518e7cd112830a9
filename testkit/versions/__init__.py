"""Versions of events, and databases of earlier releases."""
