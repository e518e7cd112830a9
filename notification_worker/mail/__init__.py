"""Emails: from a notification to the bytes that a mail server receives."""
