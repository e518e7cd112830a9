"""Brokers, databases and other servers, private to a test run."""
