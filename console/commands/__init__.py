"""The commands of `orderctl`: one module for each group."""
