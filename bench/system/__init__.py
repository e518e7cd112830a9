"""Systems under measurement."""
