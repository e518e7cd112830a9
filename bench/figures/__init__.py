"""Figures: repeats, ratios, tables and plots."""
