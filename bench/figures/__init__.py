"""Figures: repetitions, ratios, tables and plots."""
