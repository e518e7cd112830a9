"""Workers with a bug that a test fixes."""
