"""Variants of the programs that fail, stall or crash as a test requires."""
