"""The commands of `orderctl`, with one module for each group."""
