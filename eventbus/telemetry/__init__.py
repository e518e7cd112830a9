"""Logs, metrics and traces, free of personal data."""
