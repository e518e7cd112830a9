"""Healing: a restored database is brought up to date from the other services."""
