"""The crash matrix: every program, interrupted at every point between its steps, in every way."""
