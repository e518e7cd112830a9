"""Comparison of event contracts with the released contracts."""
