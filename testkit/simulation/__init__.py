"""A step simulator: the real relay, consumer runtime and retention, around a simulated broker."""
