"""Contracts of events, compared with the released ones."""
