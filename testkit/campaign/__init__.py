"""Campaigns: seeded runs of the real processes under load and faults, checked externally."""
