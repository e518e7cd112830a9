"""Comparison of event contracts with the released ones."""
