"""The crash matrix: every program is interrupted at every point between its steps, in every way."""
